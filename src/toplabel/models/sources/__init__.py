"""Where models come from: torchvision, timm, the Hugging Face hub, folders, files, live modules."""
