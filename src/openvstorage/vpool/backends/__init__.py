"""What keeps the bytes of vDisks. Each backend is a folder; ``base`` says what all of them offer."""
