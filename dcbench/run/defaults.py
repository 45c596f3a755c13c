"""What `dcbench run` does when it is told nothing: names of plugins, which the core itself does not know."""

DATASET = "digits"
METHODS = ("gradmatch", "herding", "random", "whole")
BASELINES = ("random", "herding", "whole")
"""What a first look at a method compares it with."""
NETWORK = "convnet"
EVAL_NETWORKS = ("convnet", "mlp", "lenet", "alexnet")
QUICK_EVAL_NETWORKS = ("convnet", "mlp", "lenet")
"""Without AlexNet, which takes as long to train on the whole data set as all else together."""
IPC = 1
PROTOCOL = "dc"
MEASURE = "accuracy"
