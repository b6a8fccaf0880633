"""What the files beside and around the weights say: class names, preprocessing, configurations."""
