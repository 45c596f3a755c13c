"""How networks are computed: passes, gradients, training, augmentation."""
