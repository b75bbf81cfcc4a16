"""Other methods on the same images, scored by the same evaluator (../peers.md; `run` does it all).

They live apart from the product: nothing in app/ needs them.
"""
