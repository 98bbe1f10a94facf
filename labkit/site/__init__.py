"""A static site of the notebooks, the glossary and the model card: `python -m helpers site`."""
