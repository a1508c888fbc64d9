"""What a trained model can do with given images."""
