"""The functions that the model may call in Tool mode. There are none yet."""
