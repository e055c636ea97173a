"""Values -> a few shared values: k-means on a line, and the lookup that trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from keras import ops

from penjing.arguments import quoted
from penjing.numerics import Tensor

Initialization = Literal["k-means++", "linear", "density", "random"]
SEEDING_SIZE = 65_536
RESTARTS = 4
MAX_ROUNDS = 10_000


def kmeans(
    values: np.ndarray,
    num_clusters: int,
    *,
    initialization: Initialization = "k-means++",
    seed: int = 0,
) -> np.ndarray:
    """Cluster numbers: Lloyd's algorithm until no number changes its cluster.

    It runs on the host, once for a weight. The numbers are sorted, so that a cluster is
    an interval and a round takes `num_clusters` binary searches and sums of prefixes:
    a million weights take well under a second.

    Args:
        values: Finite numbers, in any shape; may be empty.
        num_clusters: At least 1.
        initialization: Where the centroids start. `"k-means++"`: at values drawn far
            from one another, the best of four draws; `"linear"`: evenly from the least
            value to the largest; `"density"`: at the middles of parts that hold equally
            many values; `"random"`: at values drawn at random. Else a ValueError.
        seed: Of the draws.

    Returns:
        float32 array of shape `(num_clusters,)`, ascending. Where there are fewer
        distinct values than that, it holds them, the last one repeated. A cluster that
        loses its last value starts anew at the value that is worst off.

    Example:
        >>> kmeans(np.array([1.0, 1.25, 5.0, 4.5, 9.0]), 3).tolist()
        [1.125, 4.75, 9.0]

    Reference:
        Arthur and Vassilvitskii, 2007, k-means++: the advantages of careful seeding
    """
    if initialization not in INITIALIZATIONS:
        raise ValueError(
            f"`initialization` must be one of {quoted(INITIALIZATIONS)}, got "
            f"{initialization!r}."
        )
    points, counts = np.unique(np.asarray(values, "float64"), return_counts=True)
    if points.size <= num_clusters:
        return _padded(points, num_clusters)
    start = INITIALIZATIONS[initialization]
    line = _Line(points, counts)
    rng = np.random.default_rng(seed)
    draws = RESTARTS if initialization == "k-means++" else 1
    found = [line.converge(start(line, num_clusters, rng)) for _ in range(draws)]
    return np.sort(min(found, key=line.cost)).astype("float32")


class _Line:
    """Distinct values on a line with their multiplicities, and sums of both."""

    def __init__(self, points: np.ndarray, counts: np.ndarray) -> None:
        self.points = points
        self.counts = counts.astype("float64")
        self.center = np.average(points, weights=counts)  # against cancellation
        shifted = points - self.center
        self._counted = _prefix_sums(self.counts)
        self._summed = _prefix_sums(self.counts * shifted)
        self._squared = _prefix_sums(self.counts * shifted**2)

    def bounds(self, centroids: np.ndarray) -> np.ndarray:
        """Where each cluster begins among the points, and the end of the last."""
        inner = np.searchsorted(
            self.points, (centroids[1:] + centroids[:-1]) / 2, "right"
        )
        return np.array([0, *inner, self.points.size])

    def costs(self, bounds: np.ndarray) -> np.ndarray:
        """Squared distances to the mean of each cluster, summed."""
        sizes = np.maximum(np.diff(self._counted[bounds]), 1)
        costs = np.diff(self._squared[bounds]) - (
            np.diff(self._summed[bounds]) ** 2 / sizes
        )
        floored: np.ndarray = np.maximum(costs, 0.0)
        return floored

    def cost(self, centroids: np.ndarray) -> float:
        """Squared distances of all values to the mean of their cluster."""
        return float(self.costs(self.bounds(centroids)).sum())

    def converge(self, centroids: np.ndarray) -> np.ndarray:
        """Lloyd's rounds from `centroids` on."""
        bounds = self.bounds(np.sort(centroids))
        for _ in range(MAX_ROUNDS):
            filled = self._without_empty(bounds)
            centroids = self._means(filled)
            moved = self.bounds(centroids)
            if np.array_equal(moved, bounds):
                break
            bounds = moved
        return centroids

    def quantiles(self, fractions: np.ndarray) -> np.ndarray:
        """Values below which so large fractions of all values lie."""
        places = np.searchsorted(self._counted[1:], fractions * self._counted[-1])
        found: np.ndarray = self.points[np.minimum(places, self.points.size - 1)]
        return found

    def thinned(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """At most `size` of the points, evenly picked, and how many each stands for."""
        total = self.points.size
        picks = np.linspace(0, total, min(size, total), endpoint=False).astype(int)
        ends = np.append(picks[1:], total)
        middles = (picks + ends) // 2
        return self.points[middles], self._counted[ends] - self._counted[picks]

    def _means(self, bounds: np.ndarray) -> np.ndarray:
        sizes = np.diff(self._counted[bounds])
        means = self.center + np.diff(self._summed[bounds]) / sizes
        exact: np.ndarray = np.where(
            np.diff(bounds) == 1, self.points[bounds[:-1]], means
        )
        return exact

    def _without_empty(self, bounds: np.ndarray) -> np.ndarray:
        """Bounds in which every cluster has a point.

        For each one that has none, the costliest is cut in two at its mean.
        """
        wanted, bounds = bounds.size, np.unique(bounds)
        while bounds.size < wanted:
            costs = np.where(np.diff(bounds) > 1, self.costs(bounds), -1.0)
            worst = int(np.argmax(costs))
            first, end = bounds[worst], bounds[worst + 1]
            cut = np.searchsorted(self.points, self._means(bounds)[worst], "right")
            bounds = np.insert(bounds, worst + 1, np.clip(cut, first + 1, end - 1))
        return bounds


def _plus_plus(line: _Line, number: int, rng: np.random.Generator) -> np.ndarray:
    """Each next centroid is drawn by its squared distance to those before."""
    points, counts = line.thinned(max(SEEDING_SIZE, number))
    chosen = [_draw(counts, rng)]
    distances = (points - points[chosen[0]]) ** 2
    while len(chosen) < number:
        chosen.append(_draw(counts * distances, rng))
        distances = np.minimum(distances, (points - points[chosen[-1]]) ** 2)
    return points[chosen]


def _linear(line: _Line, number: int, rng: np.random.Generator) -> np.ndarray:
    return np.linspace(line.points[0], line.points[-1], number)


def _density(line: _Line, number: int, rng: np.random.Generator) -> np.ndarray:
    return line.quantiles((np.arange(number) + 0.5) / number)


def _random(line: _Line, number: int, rng: np.random.Generator) -> np.ndarray:
    return line.quantiles(rng.random(number))


INITIALIZATIONS: dict[
    Initialization, Callable[[_Line, int, np.random.Generator], np.ndarray]
] = {
    "k-means++": _plus_plus,
    "linear": _linear,
    "density": _density,
    "random": _random,
}


def _draw(weights: np.ndarray, rng: np.random.Generator) -> int:
    """A position, drawn in proportion to `weights`."""
    sums = np.cumsum(weights)
    place = np.searchsorted(sums, rng.random() * sums[-1], "right")
    return min(int(place), weights.size - 1)


def _prefix_sums(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values)])


def _padded(points: np.ndarray, size: int) -> np.ndarray:
    """Ascending float32 points, the last one repeated; zeros where there is none."""
    padded = np.zeros(size, "float32")
    padded[: points.size] = points
    padded[points.size :] = points[-1:] if points.size else 0.0
    return padded


def nearest_centroids(values: Tensor, centroids: Tensor) -> Tensor:
    """Positions of the nearest centroids, by a binary search among their midpoints.

    Values and the int32 positions are `(rows, n)`, centroids `(rows, k)`, ascending
    along each row. A value in the middle of two centroids goes to the lower one, on
    every backend.
    """
    values, centroids = _tensors(values, centroids)
    rows, number = centroids.shape
    step = 1 << max(number - 1, 0).bit_length()
    middles = centroids[:, 1:] * 0.5 + centroids[:, :-1] * 0.5
    beyond = ops.full((rows, step - number + 1), float("inf"), dtype="float32")
    flat = ops.reshape(ops.concatenate([middles, beyond], axis=1), (-1,))
    before_row = ops.arange(rows, dtype="int32")[:, None] * step - 1
    found = ops.zeros(values.shape, dtype="int32")
    while step > 1:
        step //= 2
        probe = found + step
        found = ops.where(values > ops.take(flat, before_row + probe), probe, found)
    return found


def share_values(
    values: Tensor, centroids: Tensor, *, gradient: str = "mean", keep_zeros: bool
) -> Tensor:
    """Replace values by the nearest centroids of their row, with gradients for both.

    Values are `(rows, n)`, centroids `(rows, k)` in any order. The gradient of a value,
    which decides where it belongs, is passed straight through. That of a centroid is
    the `"mean"` or the `"sum"` of those of its members. With `keep_zeros` exact zeros
    stay exactly zero, and get none.

    Reference:
        Han et al., 2015, https://arxiv.org/abs/1510.00149, for the sum
    """
    values, centroids = _tensors(values, centroids)
    ascending = ops.sort(centroids, axis=1)
    fixed = ops.stop_gradient(values)
    places, counted = _places(fixed, ops.stop_gradient(ascending), keep_zeros)
    if gradient == "mean":
        members = _sum_by_centroid(counted, places, ascending)
        still = ops.stop_gradient(ascending)
        # Adds exactly zero: the centroids are the same, their gradients divided.
        ascending = still + (ascending - still) / ops.maximum(members, 1.0)
    shared = ops.take(ops.reshape(ascending, (-1,)), places)
    shared = shared + (values - fixed)  # adds exactly zero, and the gradient
    if not keep_zeros:
        return shared
    return ops.where(ops.cast(counted, "bool"), shared, ops.zeros_like(shared))


def cluster_statistics(
    values: Tensor, centroids: Tensor, *, keep_zeros: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Members of each cluster, their mean, and their squared distances from it.

    Values are `(rows, n)`, centroids `(rows, k)` in any order. Gives how many members,
    their mean less the centroid, and the sum of their squared distances from the mean;
    three float32 tensors of shape `(rows, k)`. With `keep_zeros` exact zeros are no
    members.
    """
    values, centroids = _tensors(values, centroids)
    rows, number = centroids.shape
    order = ops.cast(ops.argsort(centroids, axis=1), "int32")
    ascending = ops.take_along_axis(centroids, order, axis=1)
    places, counted = _places(values, ascending, keep_zeros)
    row_start = ops.arange(rows, dtype="int32")[:, None] * number
    places = ops.take(ops.reshape(order + row_start, (-1,)), places)
    offsets = (values - ops.take(ops.reshape(centroids, (-1,)), places)) * counted
    members = _sum_by_centroid(counted, places, centroids)
    sums = _sum_by_centroid(offsets, places, centroids)
    squares = _sum_by_centroid(ops.square(offsets), places, centroids)
    means = sums / ops.maximum(members, 1.0)
    return members, means, ops.maximum(squares - sums * means, 0.0)


def revive_centroids(
    centroids: Tensor, members: Tensor, means: Tensor, costs: Tensor
) -> Tensor:
    """Move centroids without members to where they are needed most.

    Each takes one half of the cluster with the largest squared distances: both then
    stand a standard deviation from its mean, on either side. So all centroids serve
    the values that are left where a mask takes small ones away. Centroids stay where
    each has members, or all values of a row stand on its centroids. All four tensors
    are `(rows, k)`, the last three as `cluster_statistics` gave them.
    """
    number = centroids.shape[1]

    def splittable(members: Tensor, costs: Tensor) -> Tensor:
        empty = ops.any(ops.equal(members, 0.0), axis=1)
        return ops.logical_and(empty, ops.max(costs, axis=1) > 0.0)

    def unfinished(centroids, members, means, costs):  # type: ignore[no-untyped-def]
        return ops.any(splittable(members, costs))

    def split(centroids, members, means, costs):  # type: ignore[no-untyped-def]
        rows = splittable(members, costs)[:, None]
        empty = ops.one_hot(ops.argmin(members, axis=1), number, dtype="bool")
        worst = ops.one_hot(ops.argmax(costs, axis=1), number, dtype="bool")
        empty, worst = ops.logical_and(empty, rows), ops.logical_and(worst, rows)
        both = ops.logical_or(empty, worst)

        def of_worst(tensor: Tensor) -> Tensor:
            picked = ops.where(worst, tensor, ops.zeros_like(tensor))
            return ops.sum(picked, axis=1, keepdims=True)

        count, cost = ops.maximum(of_worst(members), 1.0), of_worst(costs)
        middle, spread = of_worst(centroids + means), ops.sqrt(cost / count)
        centroids = ops.where(worst, middle - spread, centroids)
        centroids = ops.where(empty, middle + spread, centroids)
        # A quarter of the cost is left if the cluster falls into equal halves.
        return (
            centroids,
            ops.where(both, count / 2, members),
            ops.where(both, ops.zeros_like(means), means),
            ops.where(both, cost / 8, costs),
        )

    state = _tensors(centroids, members, means, costs)
    return ops.while_loop(unfinished, split, state, maximum_iterations=number)[0]


def _places(
    values: Tensor, ascending: Tensor, keep_zeros: bool
) -> tuple[Tensor, Tensor]:
    """Positions of the nearest among all centroids, and 1.0 for each that counts."""
    rows, number = ascending.shape
    row_start = ops.arange(rows, dtype="int32")[:, None] * number
    places = nearest_centroids(values, ascending) + row_start
    if not keep_zeros:
        return places, ops.ones_like(values)
    return places, ops.cast(ops.not_equal(values, 0.0), "float32")


def _sum_by_centroid(values: Tensor, places: Tensor, centroids: Tensor) -> Tensor:
    sums = ops.segment_sum(
        ops.reshape(values, (-1,)),
        ops.reshape(places, (-1,)),
        num_segments=math.prod(centroids.shape),
    )
    return ops.reshape(sums, centroids.shape)


def _tensors(*arrays: Tensor) -> tuple[Tensor, ...]:
    return tuple(ops.cast(array, "float32") for array in arrays)
