; The driver: one call walks the commands of a program, alone or together with the pool's workers.
;
; A table is a head and its commands, %line (32) words of 64 bits each, so that what threads write
; lies in other cache lines than what they read.
;   head      0 commands  1 arrays  2 release the interpreter lock  3 pool  4 type of an array
;             5 type of a list  6 TypeError  7 widest segment      16 number of the last run
;   command   0 function  1 arguments  2 rows  3 rows of a chunk  4 chunks  5 offset of thread 0's
;             memory  6 bytes of a thread's memory  7 flags  8 claims  9 chunks of a claim
;             10 claims of the segment that ends here
;             16 run | claims taken in front | at the back     17 run | claims done in the segment
; A segment is a run of commands that ends at a barrier. Its claims are taken by whoever is there,
; even threads from the front and odd ones from the back: what a thread has in its cache it tends
; to get again. A barrier waits for claims to be done, never for threads to come: a worker that
; sleeps or lost its core holds nobody up, and one that comes late finds nothing left to do.
; The counters are tagged with the number of the run, so that nobody has to reset them.
;
; A pool is
;   0 epoch: odd while a run is open    16 workers inside    32 table  33 slots  34 threads  35 run
;   36 processor of the caller
;   48 first command of the current segment    64 failure    80 busy    96 who waits in a run
;   112 workers that came up  113 workers asked for  114 how to ask for more
;   115 pauses and 116 yields before an idle worker sleeps  117 yields before a thread in a run does
;   128 mutex  144 condition of those who wait in a run
;   160 + 48 * worker: asleep, + 16 mutex, + 32 condition

%words = type [32 x i64]

declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyErr_Occurred()
declare void @PyErr_SetString(ptr, ptr)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)

@usage = private constant [57 x i8] c"run(arena: int, arrays: list of plain ndarrays, threads)\00"

; What Python calls: run(arena, arrays, threads) with the table as `self`.
; The layout of Python's and NumPy's objects: type at 8, length of a list at 16 and its items at
; 24, data of an array at 16.
define ptr @lazygrad_call(ptr %self, ptr %args, i64 %given) nounwind {
entry:
  %self_data = getelementptr i8, ptr %self, i64 16
  %table = load ptr, ptr %self_data
  %three = icmp eq i64 %given, 3
  br i1 %three, label %typed, label %refuse
typed:
  %list_at = getelementptr ptr, ptr %args, i64 1
  %list = load ptr, ptr %list_at
  %list_type_at = getelementptr i8, ptr %list, i64 8
  %list_type = load ptr, ptr %list_type_at
  %wanted_at = getelementptr i64, ptr %table, i64 5
  %wanted = load ptr, ptr %wanted_at
  %is_list = icmp eq ptr %list_type, %wanted
  br i1 %is_list, label %counted, label %refuse
counted:
  %length_at = getelementptr i8, ptr %list, i64 16
  %length = load i64, ptr %length_at
  %arrays_at = getelementptr i64, ptr %table, i64 1
  %arrays = load i64, ptr %arrays_at
  %fits = icmp eq i64 %length, %arrays
  br i1 %fits, label %numbers, label %refuse
numbers:
  %arena_object = load ptr, ptr %args
  %arena = call i64 @PyLong_AsLongLong(ptr %arena_object)
  %threads_at = getelementptr ptr, ptr %args, i64 2
  %threads_object = load ptr, ptr %threads_at
  %threads = call i64 @PyLong_AsLongLong(ptr %threads_object)
  %raised = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %raised, null
  br i1 %fine, label %bind, label %fail
bind:
  %slots_count = add i64 %arrays, 1
  %slots = alloca i64, i64 %slots_count
  store i64 %arena, ptr %slots
  %items_at = getelementptr i8, ptr %list, i64 24
  %items = load ptr, ptr %items_at
  %array_type_at = getelementptr i64, ptr %table, i64 4
  %array_type = load ptr, ptr %array_type_at
  br label %head
head:
  %i = phi i64 [ 0, %bind ], [ %i_next, %kept ]
  %more = icmp slt i64 %i, %arrays
  br i1 %more, label %item, label %bound
item:
  %item_at = getelementptr ptr, ptr %items, i64 %i
  %object = load ptr, ptr %item_at
  %object_type_at = getelementptr i8, ptr %object, i64 8
  %object_type = load ptr, ptr %object_type_at
  %is_array = icmp eq ptr %object_type, %array_type
  br i1 %is_array, label %kept, label %refuse
kept:
  %data_at = getelementptr i8, ptr %object, i64 16
  %data = load i64, ptr %data_at
  %i_next = add i64 %i, 1
  %slot = getelementptr i64, ptr %slots, i64 %i_next
  store i64 %data, ptr %slot
  br label %head
bound:
  %release_at = getelementptr i64, ptr %table, i64 2
  %release = load i64, ptr %release_at
  %keeps = icmp eq i64 %release, 0
  br i1 %keeps, label %holding, label %releasing
holding:
  %held = call i64 @lazygrad_run(ptr %table, ptr %slots, i64 %threads)
  br label %done
releasing:
  %state = call ptr @PyEval_SaveThread()
  %released = call i64 @lazygrad_run(ptr %table, ptr %slots, i64 %threads)
  call void @PyEval_RestoreThread(ptr %state)
  br label %done
done:
  %result = phi i64 [ %held, %holding ], [ %released, %releasing ]
  %answer = call ptr @PyLong_FromLongLong(i64 %result)
  ret ptr %answer
refuse:
  %error_at = getelementptr i64, ptr %table, i64 6
  %error = load ptr, ptr %error_at
  call void @PyErr_SetString(ptr %error, ptr @usage)
  br label %fail
fail:
  ret ptr null
}

; All commands of a table; 0, or index << 32 | code of the first whose check failed.
define i64 @lazygrad_run(ptr %table, ptr %slots, i64 %threads) nounwind {
entry:
  %rounding = call i64 @enter_float()
  %pool_at = getelementptr i64, ptr %table, i64 3
  %pool = load ptr, ptr %pool_at
  %widest_at = getelementptr i64, ptr %table, i64 7
  %widest = load i64, ptr %widest_at
  %at_most = call i64 @llvm.smin.i64(i64 %threads, i64 256)
  %useful = call i64 @llvm.smin.i64(i64 %widest, i64 %at_most)
  %several = icmp sgt i64 %useful, 1
  br i1 %several, label %ask, label %alone
ask:
  %none = icmp eq ptr %pool, null
  br i1 %none, label %alone, label %take
take: ; one program at a time: a second caller runs by itself
  %busy = getelementptr i64, ptr %pool, i64 80
  %taken = cmpxchg ptr %busy, i64 0, i64 1 seq_cst seq_cst
  %mine = extractvalue { i64, i1 } %taken, 1
  br i1 %mine, label %together, label %alone
together:
  %shared = call i64 @together(ptr %pool, ptr %table, ptr %slots, i64 %useful)
  store atomic i64 0, ptr %busy seq_cst, align 8
  br label %done
alone:
  %own = call i64 @alone(ptr %table, ptr %slots)
  br label %done
done:
  %result = phi i64 [ %shared, %together ], [ %own, %alone ]
  call void @leave_float(i64 %rounding)
  ret i64 %result
}

; One claim of a command: its chunks one after another. The smallest code - 1 (so -1 is none).
define internal i64 @chunks(ptr %row, ptr %slots, i64 %thread, i64 %first, i64 %last) {
entry:
  %function = load ptr, ptr %row
  %args_at = getelementptr i64, ptr %row, i64 1
  %args = load ptr, ptr %args_at
  %rows_at = getelementptr i64, ptr %row, i64 2
  %rows = load i64, ptr %rows_at
  %step_at = getelementptr i64, ptr %row, i64 3
  %step = load i64, ptr %step_at
  %offset_at = getelementptr i64, ptr %row, i64 5
  %offset = load i64, ptr %offset_at
  %local_at = getelementptr i64, ptr %row, i64 6
  %local_bytes = load i64, ptr %local_at
  %arena = load ptr, ptr %slots
  %before = mul i64 %thread, %local_bytes
  %distance = add i64 %offset, %before
  %local = getelementptr i8, ptr %arena, i64 %distance
  br label %head
head:
  %chunk = phi i64 [ %first, %entry ], [ %chunk_next, %body ]
  %worst = phi i64 [ -1, %entry ], [ %worst_next, %body ]
  %more = icmp slt i64 %chunk, %last
  br i1 %more, label %body, label %done
body:
  %lo = mul i64 %chunk, %step
  %end = add i64 %lo, %step
  %hi = call i64 @llvm.smin.i64(i64 %end, i64 %rows)
  %code = call i64 %function(ptr %slots, ptr %args, i64 %lo, i64 %hi, i64 %chunk, ptr %local)
  %reason = sub i64 %code, 1
  %worst_next = call i64 @llvm.umin.i64(i64 %worst, i64 %reason)
  %chunk_next = add i64 %chunk, 1
  br label %head
done:
  ret i64 %worst
}

; All commands on the calling thread.
define internal i64 @alone(ptr %table, ptr %slots) {
entry:
  %count = load i64, ptr %table
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i_next, %command ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %command, label %finish
command:
  %i_next = add i64 %i, 1
  %row = getelementptr %words, ptr %table, i64 %i_next
  %chunks_at = getelementptr i64, ptr %row, i64 4
  %chunks = load i64, ptr %chunks_at
  %flags_at = getelementptr i64, ptr %row, i64 7
  %flags = load i64, ptr %flags_at
  %worst = call i64 @chunks(ptr %row, ptr %slots, i64 0, i64 0, i64 %chunks)
  %checking = and i64 %flags, 2
  %checks = icmp ne i64 %checking, 0
  %bad = icmp ne i64 %worst, -1
  %stop = and i1 %checks, %bad
  br i1 %stop, label %failed, label %head
failed:
  %shifted = shl i64 %i, 32
  %reason = add i64 %worst, 1
  %failure = or i64 %shifted, %reason
  ret i64 %failure
finish:
  ret i64 0
}

; Open a run, take part in it, close it.
define internal i64 @together(ptr %pool, ptr %table, ptr %slots, i64 %threads) {
entry:
  %workers = sub i64 %threads, 1
  %asked_at = getelementptr i64, ptr %pool, i64 113
  %asked = load i64, ptr %asked_at
  %enough = icmp sge i64 %asked, %workers
  br i1 %enough, label %open, label %grow
grow:
  %grow_at = getelementptr i64, ptr %pool, i64 114
  %start = load ptr, ptr %grow_at
  call void %start(i64 %workers)
  br label %open
open:
  %run_at = getelementptr i64, ptr %table, i64 16
  %last_run = load i64, ptr %run_at
  %run_next = add i64 %last_run, 1
  %run = and i64 %run_next, 4294967295
  store i64 %run, ptr %run_at
  %pool_table = getelementptr i64, ptr %pool, i64 32
  store ptr %table, ptr %pool_table
  %pool_slots = getelementptr i64, ptr %pool, i64 33
  store ptr %slots, ptr %pool_slots
  %pool_threads = getelementptr i64, ptr %pool, i64 34
  store i64 %threads, ptr %pool_threads
  %pool_run = getelementptr i64, ptr %pool, i64 35
  store i64 %run, ptr %pool_run
  %pool_cpu = getelementptr i64, ptr %pool, i64 36
  %cpu = call i64 @processor()
  store i64 %cpu, ptr %pool_cpu
  %position = getelementptr i64, ptr %pool, i64 48
  store atomic i64 0, ptr %position monotonic, align 8
  %failure_at = getelementptr i64, ptr %pool, i64 64
  store atomic i64 -1, ptr %failure_at monotonic, align 8
  %closed = atomicrmw add ptr %pool, i64 1 seq_cst
  br label %wake_head
wake_head:
  %worker = phi i64 [ 1, %open ], [ %worker_next, %wake_next ]
  %more = icmp slt i64 %worker, %threads
  br i1 %more, label %wake, label %walk
wake:
  %word = mul i64 %worker, 48
  %asleep_word = add i64 %word, 160
  %asleep_at = getelementptr i64, ptr %pool, i64 %asleep_word
  %asleep = load atomic i64, ptr %asleep_at seq_cst, align 8
  %awake = icmp eq i64 %asleep, 0
  br i1 %awake, label %wake_next, label %rouse
rouse:
  %mutex = getelementptr i64, ptr %asleep_at, i64 16
  %condition = getelementptr i64, ptr %asleep_at, i64 32
  %locked = call i32 @pthread_mutex_lock(ptr %mutex)
  store atomic i64 0, ptr %asleep_at seq_cst, align 8
  %signalled = call i32 @pthread_cond_signal(ptr %condition)
  %unlocked = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %wake_next
wake_next:
  %worker_next = add i64 %worker, 1
  br label %wake_head
walk:
  call void @walk(ptr %pool, ptr %table, ptr %slots, i64 0, i64 %run, i64 0)
  %opened = atomicrmw add ptr %pool, i64 1 seq_cst
  %inside = getelementptr i64, ptr %pool, i64 16
  br label %leave_head
leave_head: ; nobody may read the table or write into the arena after the call
  %left = load atomic i64, ptr %inside seq_cst, align 8
  %empty = icmp eq i64 %left, 0
  br i1 %empty, label %finish, label %leave_wait
leave_wait:
  call void @wait(ptr %pool, ptr %inside, i64 %left)
  br label %leave_head
finish:
  %failure = load atomic i64, ptr %failure_at seq_cst, align 8
  %failed = icmp ne i64 %failure, -1
  %result = select i1 %failed, i64 %failure, i64 0
  ret i64 %result
}

; What a worker does for all its life.
define ptr @lazygrad_worker(ptr %pool) nounwind {
entry:
  %rounding = call i64 @enter_float()
  %allowed = alloca [16 x i64], align 64
  call void @processors(ptr %allowed)
  %came_at = getelementptr i64, ptr %pool, i64 112
  %came = atomicrmw add ptr %came_at, i64 1 seq_cst
  %thread = add i64 %came, 1
  %inside = getelementptr i64, ptr %pool, i64 16
  br label %idle
idle:
  %seen = phi i64 [ 0, %entry ], [ %epoch, %news ], [ %epoch, %leave ], [ %epoch, %rouse ]
  call void @sleep(ptr %pool, i64 %thread, i64 %seen)
  br label %news
news:
  %epoch = load atomic i64, ptr %pool seq_cst, align 8
  %odd = and i64 %epoch, 1
  %open = icmp ne i64 %odd, 0
  br i1 %open, label %enter, label %idle
enter:
  %others = atomicrmw add ptr %inside, i64 1 seq_cst
  %now = load atomic i64, ptr %pool seq_cst, align 8
  %still = icmp eq i64 %now, %epoch
  br i1 %still, label %invited, label %leave
invited:
  %threads_at = getelementptr i64, ptr %pool, i64 34
  %threads = load i64, ptr %threads_at
  %wanted = icmp slt i64 %thread, %threads
  br i1 %wanted, label %work, label %leave
work:
  %table_at = getelementptr i64, ptr %pool, i64 32
  %table = load ptr, ptr %table_at
  %slots_at = getelementptr i64, ptr %pool, i64 33
  %slots = load ptr, ptr %slots_at
  %run_at = getelementptr i64, ptr %pool, i64 35
  %run = load i64, ptr %run_at
  %cpu_at = getelementptr i64, ptr %pool, i64 36
  %cpu = load i64, ptr %cpu_at
  call void @avoid(i64 %cpu, ptr %allowed)
  %position_at = getelementptr i64, ptr %pool, i64 48
  %position = load atomic i64, ptr %position_at acquire, align 8
  call void @walk(ptr %pool, ptr %table, ptr %slots, i64 %thread, i64 %run, i64 %position)
  br label %leave
leave:
  %before = atomicrmw sub ptr %inside, i64 1 seq_cst
  %last = icmp eq i64 %before, 1
  br i1 %last, label %rouse, label %idle
rouse:
  call void @rouse(ptr %pool)
  br label %idle
}

; The commands from `first` on, as one of several threads.
define internal void @walk(ptr %pool, ptr %table, ptr %slots, i64 %thread, i64 %run, i64 %first) {
entry:
  %count = load i64, ptr %table
  %position = getelementptr i64, ptr %pool, i64 48
  %failure = getelementptr i64, ptr %pool, i64 64
  %caller = icmp eq i64 %thread, 0
  br label %head
head:
  %i = phi i64 [ %first, %entry ], [ %i_next, %passed ]
  %tally = phi i64 [ 0, %entry ], [ %tally_after, %passed ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %command, label %finish
command:
  %i_next = add i64 %i, 1
  %row = getelementptr %words, ptr %table, i64 %i_next
  %flags_at = getelementptr i64, ptr %row, i64 7
  %flags = load i64, ptr %flags_at
  %solo_bit = and i64 %flags, 4
  %solo = icmp ne i64 %solo_bit, 0
  %workers = xor i1 %caller, true
  %skip = and i1 %solo, %workers
  %chunks_at = getelementptr i64, ptr %row, i64 4
  %chunks = load i64, ptr %chunks_at
  %claims_at = getelementptr i64, ptr %row, i64 8
  %claims = load i64, ptr %claims_at
  %group_at = getelementptr i64, ptr %row, i64 9
  %group = load i64, ptr %group_at
  br i1 %skip, label %ran, label %claim_head
claim_head:
  %done = phi i64 [ %tally, %command ], [ %done_next, %claimed ], [ %done_next, %report ]
  %claim = call i64 @claim(ptr %row, i64 %run, i64 %claims, i64 %thread)
  %got = icmp sge i64 %claim, 0
  br i1 %got, label %work, label %ran
work:
  %from = mul i64 %claim, %group
  %end = add i64 %from, %group
  %to = call i64 @llvm.smin.i64(i64 %end, i64 %chunks)
  %worst = call i64 @chunks(ptr %row, ptr %slots, i64 %thread, i64 %from, i64 %to)
  br label %claimed
claimed:
  %done_next = add i64 %done, 1
  %checking = and i64 %flags, 2
  %checks = icmp ne i64 %checking, 0
  %bad = icmp ne i64 %worst, -1
  %failed = and i1 %checks, %bad
  br i1 %failed, label %report, label %claim_head
report: ; the same failure for any number of threads: the smallest
  %shifted = shl i64 %i, 32
  %code = add i64 %worst, 1
  %reason = or i64 %shifted, %code
  %old = atomicrmw umin ptr %failure, i64 %reason seq_cst
  br label %claim_head
ran:
  %tally_now = phi i64 [ %tally, %command ], [ %done, %claim_head ]
  %barrier_bit = and i64 %flags, 1
  %barrier = icmp ne i64 %barrier_bit, 0
  br i1 %barrier, label %meet, label %passed
meet:
  %done_at = getelementptr i64, ptr %row, i64 17
  %total_at = getelementptr i64, ptr %row, i64 10
  %total = load i64, ptr %total_at
  %pass_bit = and i64 %flags, 8
  %pass = icmp ne i64 %pass_bit, 0
  %unseen = and i1 %solo, %pass
  br i1 %unseen, label %met, label %count_own
count_own:
  %some = icmp ne i64 %tally_now, 0
  br i1 %some, label %add_own, label %await
add_own:
  call void @add(ptr %pool, ptr %done_at, i64 %run, i64 %tally_now)
  br label %await
await: ; a worker need not wait where the caller alone goes on
  %on = and i1 %pass, %workers
  br i1 %on, label %met, label %await_all
await_all:
  call void @await(ptr %pool, ptr %done_at, i64 %run, i64 %total)
  br label %met
met:
  %reasons = load atomic i64, ptr %failure seq_cst, align 8
  %good = icmp eq i64 %reasons, -1
  br i1 %good, label %onward, label %finish
onward:
  br i1 %caller, label %publish, label %passed
publish:
  store atomic i64 %i_next, ptr %position release, align 8
  br label %passed
passed:
  %tally_after = phi i64 [ %tally_now, %ran ], [ 0, %onward ], [ 0, %publish ]
  br label %head
finish:
  ret void
}

; The number of a claim that nobody has, or -1.
define internal i64 @claim(ptr %row, i64 %run, i64 %claims, i64 %thread) {
entry:
  %word = getelementptr i64, ptr %row, i64 16
  %start = load atomic i64, ptr %word seq_cst, align 8
  %tag = shl i64 %run, 32
  %side = and i64 %thread, 1
  %behind = icmp ne i64 %side, 0
  %one = select i1 %behind, i64 1, i64 65536
  br label %head
head:
  %now = phi i64 [ %start, %entry ], [ %found, %try ]
  %now_run = lshr i64 %now, 32
  %current = icmp eq i64 %now_run, %run
  %low = and i64 %now, 4294967295
  %taken = select i1 %current, i64 %low, i64 0
  %front = lshr i64 %taken, 16
  %back = and i64 %taken, 65535
  %all = add i64 %front, %back
  %left = icmp slt i64 %all, %claims
  br i1 %left, label %try, label %none
try:
  %more = add i64 %taken, %one
  %next = or i64 %tag, %more
  %swapped = cmpxchg ptr %word, i64 %now, i64 %next seq_cst seq_cst
  %found = extractvalue { i64, i1 } %swapped, 0
  %mine = extractvalue { i64, i1 } %swapped, 1
  br i1 %mine, label %got, label %head
got:
  %last = sub i64 %claims, 1
  %from_back = sub i64 %last, %back
  %claim = select i1 %behind, i64 %from_back, i64 %front
  ret i64 %claim
none:
  ret i64 -1
}

; Count claims as done.
define internal void @add(ptr %pool, ptr %word, i64 %run, i64 %tally) {
entry:
  %start = load atomic i64, ptr %word seq_cst, align 8
  %tag = shl i64 %run, 32
  br label %head
head:
  %now = phi i64 [ %start, %entry ], [ %found, %head ]
  %now_run = lshr i64 %now, 32
  %current = icmp eq i64 %now_run, %run
  %before = select i1 %current, i64 %now, i64 %tag
  %next = add i64 %before, %tally
  %swapped = cmpxchg ptr %word, i64 %now, i64 %next seq_cst seq_cst
  %found = extractvalue { i64, i1 } %swapped, 0
  %mine = extractvalue { i64, i1 } %swapped, 1
  br i1 %mine, label %done, label %head
done:
  call void @rouse(ptr %pool)
  ret void
}

; Wait until so many claims are done.
define internal void @await(ptr %pool, ptr %word, i64 %run, i64 %total) {
entry:
  %tag = shl i64 %run, 32
  %goal = add i64 %tag, %total
  %nothing = icmp eq i64 %total, 0
  br i1 %nothing, label %done, label %head
head:
  %now = load atomic i64, ptr %word seq_cst, align 8
  %reached = icmp eq i64 %now, %goal
  br i1 %reached, label %done, label %more
more:
  call void @wait(ptr %pool, ptr %word, i64 %now)
  br label %head
done:
  ret void
}

; Pause, then yield, while the word is `old`: whether it was to the end.
define internal i1 @spin(ptr %word, i64 %old, i64 %pauses, i64 %yields) {
entry:
  br label %pause_head
pause_head:
  %i = phi i64 [ 0, %entry ], [ %i_next, %pause ]
  %now = load atomic i64, ptr %word acquire, align 8
  %same = icmp eq i64 %now, %old
  br i1 %same, label %paused, label %changed
paused:
  %again = icmp slt i64 %i, %pauses
  br i1 %again, label %pause, label %yield_head
pause:
  call void @pause()
  %i_next = add i64 %i, 1
  br label %pause_head
yield_head:
  %k = phi i64 [ 0, %paused ], [ %k_next, %yield ]
  %then = load atomic i64, ptr %word acquire, align 8
  %unchanged = icmp eq i64 %then, %old
  br i1 %unchanged, label %yielded, label %changed
yielded:
  %longer = icmp slt i64 %k, %yields
  br i1 %longer, label %yield, label %enough
yield:
  %ignored = call i32 @sched_yield()
  %k_next = add i64 %k, 1
  br label %yield_head
changed:
  ret i1 false
enough:
  ret i1 true
}

; Wait inside of a run while the word is `old`: spin, then sleep.
define internal void @wait(ptr %pool, ptr %word, i64 %old) {
entry:
  %pauses_at = getelementptr i64, ptr %pool, i64 115
  %pauses = load i64, ptr %pauses_at
  %yields_at = getelementptr i64, ptr %pool, i64 117
  %yields = load i64, ptr %yields_at
  %same = call i1 @spin(ptr %word, i64 %old, i64 %pauses, i64 %yields)
  br i1 %same, label %sleep, label %done
sleep:
  %waiters = getelementptr i64, ptr %pool, i64 96
  %mutex = getelementptr i64, ptr %pool, i64 128
  %condition = getelementptr i64, ptr %pool, i64 144
  %locked = call i32 @pthread_mutex_lock(ptr %mutex)
  %more = atomicrmw add ptr %waiters, i64 1 seq_cst
  br label %head
head:
  %now = load atomic i64, ptr %word seq_cst, align 8
  %still = icmp eq i64 %now, %old
  br i1 %still, label %block, label %wake
block:
  %woken = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %head
wake:
  %less = atomicrmw sub ptr %waiters, i64 1 seq_cst
  %unlocked = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %done
done:
  ret void
}

; Wake those who sleep in `wait`: a word that they may look at has changed.
define internal void @rouse(ptr %pool) {
entry:
  %waiters_at = getelementptr i64, ptr %pool, i64 96
  %waiters = load atomic i64, ptr %waiters_at seq_cst, align 8
  %nobody = icmp eq i64 %waiters, 0
  br i1 %nobody, label %done, label %wake
wake:
  %mutex = getelementptr i64, ptr %pool, i64 128
  %condition = getelementptr i64, ptr %pool, i64 144
  %locked = call i32 @pthread_mutex_lock(ptr %mutex)
  %told = call i32 @pthread_cond_broadcast(ptr %condition)
  %unlocked = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %done
done:
  ret void
}

; Wait between runs while the epoch is `seen`: spin, then sleep.
define internal void @sleep(ptr %pool, i64 %thread, i64 %seen) {
entry:
  %pauses_at = getelementptr i64, ptr %pool, i64 115
  %pauses = load i64, ptr %pauses_at
  %yields_at = getelementptr i64, ptr %pool, i64 116
  %yields = load i64, ptr %yields_at
  %same = call i1 @spin(ptr %pool, i64 %seen, i64 %pauses, i64 %yields)
  br i1 %same, label %sleep, label %done
sleep:
  %word = mul i64 %thread, 48
  %asleep_word = add i64 %word, 160
  %asleep_at = getelementptr i64, ptr %pool, i64 %asleep_word
  %mutex = getelementptr i64, ptr %asleep_at, i64 16
  %condition = getelementptr i64, ptr %asleep_at, i64 32
  %locked = call i32 @pthread_mutex_lock(ptr %mutex)
  %was = atomicrmw xchg ptr %asleep_at, i64 1 seq_cst
  %epoch = load atomic i64, ptr %pool seq_cst, align 8
  %still = icmp eq i64 %epoch, %seen
  br i1 %still, label %head, label %wake
head:
  %asleep = load atomic i64, ptr %asleep_at seq_cst, align 8
  %sleeps = icmp ne i64 %asleep, 0
  br i1 %sleeps, label %block, label %wake
block:
  %woken = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %head
wake:
  store atomic i64 0, ptr %asleep_at seq_cst, align 8
  %unlocked = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %done
done:
  ret void
}
