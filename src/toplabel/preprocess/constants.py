"""The mean and std of each channel that networks are usually trained with; of values 0 to 1."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Of all pixels."""
CIFAR10_IMAGE_STD = (0.2023, 0.1994, 0.2010)
"""The mean of the images' own."""
MNIST_MEAN, MNIST_STD = (0.1307,), (0.3081,)
FER_MEAN, FER_STD = (0.507395516207,), (0.255128989415,)
"""Of FER-2013's faces, as its PyTorch scripts have them."""
