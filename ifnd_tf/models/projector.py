"""The projector: the small network between the encoder's features and the loss."""

import keras


def projector(feature_dim: int, hidden_dim: int, projection_dim: int) -> keras.Model:
    """Two-layer perceptron (SimCLR, MoCo v2): Dense, ReLU, Dense.

    Args:
        feature_dim: width F of the encoder's features.
        hidden_dim: width of the hidden layer; 0 means F, as in MoCo v2.
        projection_dim: width D of the output.

    Returns:
        A model from [b, F] to float32 [b, D], not normalised. The last layer computes in
        float32 whatever the precision of the encoder: cosine similarities divided by a
        temperature of 0.1 have no digits to spare.
    """
    return keras.Sequential(
        [
            keras.Input((feature_dim,)),
            keras.layers.Dense(hidden_dim or feature_dim, activation="relu", name="hidden"),
            keras.layers.Dense(projection_dim, dtype="float32", name="projection"),
        ],
        name="projector",
    )
