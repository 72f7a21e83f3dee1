"""How a derivative is proven: which inputs are drawn, what must hold of every rule, and which wrong rules must fail."""
