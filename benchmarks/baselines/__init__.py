"""What lazygrad is measured against."""
