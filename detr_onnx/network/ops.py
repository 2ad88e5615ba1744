"""The operations that the model is written in.

`resnet.py`, `position.py`, `transformer.py` and `detr.py` call nothing but the methods of an `Ops`. `numpy_ops.py`
computes them; `onnx_ops.py` records them as a graph. A value (`V`) is an array in the first, an array or a symbol in
the second. A *feature map* is opaque (NHWC in numpy, NCHW in ONNX) until `tokens` turns it into a sequence.

An `Ops` belongs to a module of the network. The module's path, such as `encoder.layers.0`, names its parameters and its
nodes.

Letters: B batch, H W pixels, h w cells of the last feature map, N = h·w tokens, D width of a token, M heads, Q queries,
C classes.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

V = TypeVar("V")


class Ops(Protocol[V]):
    """All operations. A method that takes a `name` uses the parameters `{path}.{name}.weight` and `.bias`."""

    def at(self, step: str) -> Ops[V]:
        """The operations of an inner module."""

    def has(self, name: str) -> bool:
        """Whether this module has parameters of that name."""

    def parameter(self, name: str) -> V:
        """The parameter `{path}.{name}`, [1, ...]: with a batch axis in front."""

    def stage(self, name: str, value: V) -> V:
        """The value itself, after noting it under a name, by which tests and exports find it."""

    # feature maps

    def image(self, pixels: V) -> V:
        """[B,3,H,W] pixels -> feature map."""

    def conv(
        self, name: str, x: V, *, stride: int = 1, dilation: int = 1, relu: bool = False, residual: V | None = None
    ) -> V:
        """Convolution with bias, padded so that stride 1 keeps the size; then, if given, `+ residual` and ReLU."""

    def max_pool(self, x: V) -> V:
        """The maximum of each 3x3 window, stride 2, padding 1."""

    def tokens(self, feature: V) -> V:
        """Feature map -> [B,N,C], row by row."""

    def valid_cells(self, feature: V, mask: V | None) -> V:
        """[B,h,w] float: 1 for cells of the image, 0 for padding; without a mask, [1,h,w] of ones."""

    # tokens

    def linear(self, name: str, x: V, *, plus: V | None = None, scale: float = 1.0, relu: bool = False) -> V:
        """The linear layer of `x + plus`, times `scale`, [..., in] -> [..., out]; then, with `relu`, ReLU."""

    def attention(self, q: V, k: V, v: V, heads: int, key_bias: V | None) -> V:
        """softmax(q kᵀ + key_bias) v in each head: [B,Nq,D], [B,Nk,D], [B,Nk,D] -> [B,Nq,D]; q is already over √d."""

    def key_bias(self, valid: V) -> V:
        """[B,h,w] valid cells -> the bias for `attention`: 0; for padding, so low that softmax gives 0."""

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
        """The last slice along `axis`, which is kept with length 1."""

    def column(self, cells: V) -> V:
        """[B,h,w] -> [B,N,1]."""

    def interleave(self, even: V, odd: V) -> V:
        """[..., n], [..., n] -> [..., 2n]: even[0], odd[0], even[1], odd[1], …"""

    def concatenate(self, x: V, y: V) -> V:
        """[..., n], [..., m] -> [..., n+m]."""
