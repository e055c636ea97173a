"""Training on labels and on the outputs of the model before the cut."""

from __future__ import annotations

from typing import Any

import keras

from penjing.models.copying import copy_model


def distilled_by(
    teacher: keras.Model,
    student: keras.Model,
    loss: Any,
    *,
    weight: float,
    temperature: float,
) -> keras.Model:
    """Let a model learn from another one with Keras' own `Distiller`.

    Logits of classes are compared by their softened probabilities, other outputs by
    the mean of their squared difference. `Distiller` passes over sample weights, and
    over losses that layers and regularizers add.

    Args:
        teacher: The model to learn from; a copy of it is used.
        student: The model that is trained.
        loss: The loss that it is trained with.
        weight: Weight of the teacher's outputs in the whole loss; the labels have the
            rest.
        temperature: Softens logits.

    Returns:
        A model to compile and train in place of the student, which it changes.
    """
    losses = keras.distillation
    logits = all(_takes_logits(part) for part in keras.tree.flatten(loss))
    how = (
        losses.LogitsDistillation(temperature=temperature)
        if logits
        else losses.FeatureDistillation(loss="mse")
    )
    return losses.Distiller(
        teacher=copy_model(teacher),
        student=student,
        distillation_losses=how,
        student_loss_weight=1.0 - weight,
    )


def _takes_logits(loss: Any) -> bool:
    """Whether a loss compares classes by their logits."""
    kinds = (
        keras.losses.CategoricalCrossentropy,
        keras.losses.SparseCategoricalCrossentropy,
    )
    return isinstance(loss, kinds) and bool(loss.get_config().get("from_logits"))
