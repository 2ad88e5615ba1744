"""The operations that the model is written in.

`resnet.py`, `position.py`, `transformer.py`, `segmentation.py` and `detr.py` call nothing but the methods of an `Ops`.
`numpy_ops.py` computes them; `onnx_ops.py` records them as a graph. A value (`V`) is an array in the first, an array or
a symbol in the second. A *feature map* is opaque (NHWC in numpy, NCHW in ONNX) until `tokens` turns it into a sequence.

An `Ops` belongs to a module of the network. The module's path, such as `encoder.layers.0`, names its parameters and its
nodes.

Letters: B batch, H W pixels, h w cells of the last feature map, N = h·w tokens, D width of a token, M heads, Q queries,
C classes, K queries that are kept, P cells that are asked for, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    def conv_max_pool(self, name: str, x: V, *, stride: int) -> V:
        """ReLU of the convolution, then the maximum of each 3x3 window, stride 2, padding 1."""

    def tokens(self, feature: V) -> V:
        """Feature map -> [B,N,C], row by row."""

    def valid_cells(self, feature: V, mask: V | None) -> V:
        """[B,h,w] float: 1 for cells of the image, 0 for padding; without a mask, [1,h,w] of ones."""

    def feature_map(self, tokens: V, like: V) -> V:
        """[1,N,C] -> feature map of C channels, of the size of another; `tokens` the other way round."""

    def conv_resized(self, name: str, x: V, residual: V) -> V:
        """3x3 convolution without bias, at the size of the residual, `+ residual`.

        The feature map is resized first, to at least its own size; each cell takes the nearest one.
        """

    def group_norm(self, name: str, x: V, groups: int) -> V:
        """ReLU of the group norm of a feature map, eps 1e-5; of no more groups than channels."""

    def plane(self, x: V) -> V:
        """Feature map of one channel -> [B,h,w]."""

    # tokens

    def linear(self, name: str, x: V, *, plus: V | None = None, scale: float = 1.0, relu: bool = False) -> V:
        """The linear layer of `x + plus`, times `scale`, [..., in] -> [..., out]; then, with `relu`, ReLU."""

    def attention(self, q: V, k: V, v: V, heads: int, key_bias: V | None) -> V:
        """softmax(q kᵀ + key_bias) v in each head: [B,Nq,D], [B,Nk,D], [B,Nk,D] -> [B,Nq,D]; q is already over √d."""

    def attention_map(self, q: V, k: V, heads: int, key_bias: V | None) -> V:
        """softmax(q kᵀ + key_bias) over the cells of all heads together: [1,1,D], [1,N,D] -> [1,N,M]."""

    def key_bias(self, valid: V) -> V:
        """[B,h,w] valid cells -> the bias for `attention`: 0; for padding, so low that softmax gives 0."""

    def layer_norm(self, name: str, x: V) -> V:
        """Layer norm over the last axis, eps 1e-5."""

    def sigmoid(self, x: V) -> V:
        """1 / (1 + e^-x)."""

    # queries

    def above(self, logits: V, threshold: V) -> V:
        """[B,Q,C+1], [1] -> [K,2]: image and query of each score above the threshold; the last class is left out."""

    def of_image(self, x: V, row: V) -> V:
        """[B,...] -> [1,...]: the slice of the image of a row of `above`."""

    def of_query(self, x: V, row: V) -> V:
        """[B,Q,D] -> [1,1,D]: the slice of the image and the query of a row of `above`."""

    def for_each(self, rows: V, like: V, body: Callable[[Ops[V], V], V]) -> V:
        """[K,2] -> [K,h,w]: the body's [1,h,w] for each row, one after another; h and w are those of a feature map.

        The body is given the operations to use, and the row.
        """

    # attention maps

    def attention_weights(self, q: V, k: V, heads: int, key_bias: V | None) -> V:
        """The softmax in `attention`: [B,Nq,D], [B,Nk,D] -> [B,Nq,M,Nk], which sum to 1 over the keys."""

    def of_queries(self, x: V, rows: V) -> V:
        """[B,Q,...], [K,2] -> [K,...]: the slice of the image and the query of each row of `above`."""

    def rows_of(self, x: V, numbers: V) -> V:
        """[B,N,D], [B,P] -> [B,P,D]: the tokens of these numbers, of each image its own."""

    def stack(self, layers: Sequence[V], axis: int) -> V:
        """The values along a new axis."""

    def grid(self, x: V, like: V) -> V:
        """[...,M,N] -> [...,M,h,w]: the cells in rows and columns, as many as a feature map has."""

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
        """[B,N,n], [B,N,n] -> [B,N,2n]: even[0], odd[0], even[1], odd[1], …"""

    def concatenate(self, x: V, y: V) -> V:
        """[..., n], [..., m] -> [..., n+m]."""
