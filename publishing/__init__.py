"""What a trained model needs outside the suite: GGUF files, a Modelfile for Ollama, a model card, a place on a hub."""
