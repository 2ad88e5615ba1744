"""The vocabulary the model is written in.

`resnet.py`, `position.py`, `transformer.py` and `detr.py` say everything through an `Ops`. `numpy_ops.py` computes what
they say; `onnx_ops.py` writes it down as a graph. A value (`V`) is an array in the one, an array or a symbol in the
other; a *feature map* is opaque (NHWC in numpy, NCHW in ONNX) until `tokens` turns it into a sequence.

An `Ops` stands at a *place* in the network, such as `encoder.layers.0`, which names its parameters and its nodes.

Letters: B batch, H W pixels, h w cells of the last feature map, N = h·w tokens, D width of a token, M heads, Q queries,
C classes.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

V = TypeVar("V")


class Ops(Protocol[V]):
    """What the model can say. Every method that takes a `name` uses the parameters `{place}.{name}.weight`, `.bias`."""

    def at(self, step: str) -> Ops[V]:
        """The same vocabulary one place further in."""

    def has(self, name: str) -> bool:
        """Whether there are parameters of that name at this place."""

    def parameter(self, name: str) -> V:
        """The parameter `{place}.{name}`, [1, ...]: with a batch axis in front."""

    def stage(self, name: str, value: V) -> V:
        """The value itself, after noting it under a name, for whoever wants to look at it."""

    # feature maps

    def image(self, pixels: V) -> V:
        """[B,3,H,W] pixels -> feature map."""

    def conv(
        self, name: str, x: V, *, stride: int = 1, dilation: int = 1, relu: bool = False, residual: V | None = None
    ) -> V:
        """Convolution with bias, padded so that stride 1 keeps the size; then `+ residual`, then ReLU, where asked."""

    def max_pool(self, x: V) -> V:
        """The largest of each 3x3 window, stride 2, padding 1."""

    def tokens(self, feature: V) -> V:
        """Feature map -> [B,N,C], row by row."""

    def valid_cells(self, feature: V, mask: V | None) -> V:
        """[B,h,w] float: 1 where a cell of the feature map shows image, 0 for padding; [1,h,w] of 1 without mask."""

    # tokens

    def linear(self, name: str, x: V, *, plus: V | None = None, scale: float = 1.0, relu: bool = False) -> V:
        """The linear layer of `x + plus`, times `scale`, [..., in] -> [..., out]; then ReLU, where asked."""

    def attention(self, q: V, k: V, v: V, heads: int, key_bias: V | None) -> V:
        """softmax(q kᵀ + key_bias) v in each head: [B,Nq,D], [B,Nk,D], [B,Nk,D] -> [B,Nq,D]; q comes scaled by 1/√d."""

    def key_bias(self, valid: V) -> V:
        """[B,h,w] valid cells -> what `attention` adds: 0 for a valid cell; for padding, what softmax turns into 0."""

    def layer_norm(self, name: str, x: V) -> V:
        """Layer norm over the last axis, eps 1e-5."""

    def sigmoid(self, x: V) -> V:
        """1 / (1 + e^-x)."""

    # arithmetic, with numpy's broadcasting

    def add(self, x: V, y: V | float) -> V: ...

    def multiply(self, x: V, y: V | float) -> V: ...

    def divide(self, x: V, y: V) -> V: ...

    def sin(self, x: V) -> V: ...

    def cos(self, x: V) -> V: ...

    def constant(self, values: tuple[float, ...]) -> V:
        """[n] float32."""

    def cumulative_sum(self, x: V, axis: int) -> V: ...

    def last(self, x: V, axis: int) -> V:
        """The last slice along `axis`, which stays, with length 1."""

    def column(self, cells: V) -> V:
        """[B,h,w] -> [B,N,1]."""

    def interleave(self, even: V, odd: V) -> V:
        """[..., n], [..., n] -> [..., 2n]: even[0], odd[0], even[1], odd[1], …"""

    def concatenate(self, x: V, y: V) -> V:
        """[..., n], [..., m] -> [..., n+m]."""
