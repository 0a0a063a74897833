"""Print modules with PyTorch 2.13 and keep what it says: `python make_reprs.py`."""

import json
from pathlib import Path

import torch

nn = torch.nn
EXPRESSIONS = """
CELU(0.4) GLU() Threshold(0.1,2) Hardshrink(0.3) Softshrink() Tanhshrink() Softmax2d()
BatchNorm1d(3) BatchNorm3d(3,bias=False) GroupNorm(2,4) GroupNorm(2,4,affine=False)
InstanceNorm1d(3) InstanceNorm2d(3,affine=True) LayerNorm(3) Bilinear(1,2,3)
Upsample(scale_factor=2) Upsample(size=(3,4),mode='bilinear') UpsamplingNearest2d(scale_factor=2)
PixelShuffle(2) PixelUnshuffle(2) ChannelShuffle(2)
Conv1d(2,4,3) Conv2d(2,4,3,padding=1,groups=2) Conv2d(2,4,3,padding='same')
Conv3d(2,4,(1,2,3),stride=2,dilation=2,bias=False,padding_mode='reflect',padding=1)
ConvTranspose2d(2,4,3,output_padding=1,stride=2) MaxPool2d(2) MaxPool1d(3,2,1,2,ceil_mode=True)
AvgPool2d((2,3),padding=1) AvgPool1d(2) AdaptiveAvgPool2d((1,None)) AdaptiveMaxPool1d(3)
Unfold(3) Fold((3,3),2,stride=2) RNN(2,3) LSTM(3,4,2,bidirectional=True,dropout=0.1,proj_size=2)
GRU(3,4,batch_first=True,bias=False) GRUCell(3,4) RNNCell(2,3,nonlinearity='relu')
LSTMCell(2,3,bias=False) CosineSimilarity() PairwiseDistance() HingeEmbeddingLoss()
TripletMarginLoss() Dropout2d(0.2) ConstantPad1d(2,3.5) ReflectionPad2d((1,2,3,4)) ZeroPad2d(1)
CircularPad3d(1) ReplicationPad1d(2)
"""

if __name__ == "__main__":
    found = {text: repr(eval("nn." + text)) for text in EXPRESSIONS.split()}
    (Path(__file__).parent / "reprs.json").write_text(json.dumps(found, indent=1) + "\n")
