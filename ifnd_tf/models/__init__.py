"""Encoders and the contrastive models that train them."""
