"""The settings of `cluster` as a value."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.engine.small_net import net

from penjing import ClusteringConfig
from penjing.engine.clustering import apply_clustering


@pytest.mark.once
def test_the_config_survives_json_and_applies():
    model = net()
    config = ClusteringConfig(
        num_clusters=np.int64(4),
        initialization="density",
        granularity="per_channel",
        preserve_sparsity=False,
        centroid_gradient="sum",
        include=[model.get_layer("hidden")],
        exclude="head",
        seed=3,
    )
    table = json.loads(json.dumps(config.get_config()))
    again = ClusteringConfig.from_config(table)
    assert again.get_config() == config.get_config()
    clustered = apply_clustering(model, again, copy=False)
    assert clustered.model is model
    assert clustered.transforms[0].paths == ("net/hidden/kernel",)
    assert clustered.transforms[0].centroids[0].shape == (20, 4)
