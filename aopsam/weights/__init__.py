"""The bundled weights and their cards."""
