"""What is read from disk: frames, label maps, the evaluation sets' layouts, and the training sets."""
