"""What stands in for the outside world over real HTTP: AWS, a Hugging Face hub, and the models that the hub serves."""
