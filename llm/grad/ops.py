"""Day 15 · The pairs of day 14, lifted to Tensors: what layers are built from.

Shapes, errors and sources stand at the pairs. Left out: arithmetic, sum, reshape and indexing,
which are methods of Tensor (tensor.py).
"""

from llm.grad import more, rules
from llm.grad.tensor import primitive

linear = primitive(rules.linear, rules.linear_vjp)
embedding = primitive(rules.embedding, rules.embedding_vjp)
relu = primitive(rules.relu, rules.relu_vjp)
tanh = primitive(rules.tanh, rules.tanh_vjp)
sigmoid = primitive(rules.sigmoid, rules.sigmoid_vjp)
silu = primitive(rules.silu, rules.silu_vjp)
gelu = primitive(rules.gelu, rules.gelu_vjp)
softmax = primitive(more.softmax, more.softmax_vjp)
cross_entropy = primitive(rules.cross_entropy, rules.cross_entropy_vjp)

exp = primitive(more.exp, more.exp_vjp)
log = primitive(more.log, more.log_vjp)
gelu_erf = primitive(more.gelu_erf, more.gelu_erf_vjp)
log_softmax = primitive(more.log_softmax, more.log_softmax_vjp)
cat = primitive(more.cat, more.cat_vjp)
