"""Day 04 · Common mistakes with matrix products, as drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Rows that no thread owns",
        file="llm/tensors/matmul.py",
        right=" = stripe * groups // stripes * 4, (stripe + 1) * groups // stripes * 4\n",
        wrong=" = groups // stripes * stripe * 4, groups // stripes * (stripe + 1) * 4\n",
        symptom="Right on one thread; on two, the last four rows of c are zero for some heights.",
    ),
    Mistake(
        title="Padded to what the rows need, not to what the sum needs",
        file="llm/tensors/matmul.py",
        right="    a, b = _padded(a, ROWS, DEPTH), _padded(b, DEPTH, 1)\n",
        wrong="    a, b = _padded(a, ROWS, DEPTH), _padded(b, 1, DEPTH)\n",
        symptom="Right for K = 1024; where 8 does not divide K the product is zero or garbage.",
    ),
    Mistake(
        title="Each panel starts the sum again",
        file="llm/tensors/matmul.py",
        right="            c0[j] += _dot(a0, x)\n",
        wrong="            c0[j] = _dot(a0, x)\n",
        symptom="Every fourth row holds only the last eight products of its sum.",
    ),
    Mistake(
        title="Writing c is forgotten in the bytes",
        file="llm/tensors/roofline.py",
        right="    return itemsize * (m * k + k * n + m * n)\n",
        wrong="    return itemsize * (m * k + k * n)\n",
        symptom="A square product has an intensity of n / 4 instead of n / 6.",
    ),
]

EQUIVALENT = [
    ("llm/tensors/matmul.py", "c3[j] += _dot(x, a3)",
     "a scalar product does not depend on the order of its two vectors"),
    ("llm/tensors/roofline.py", "return flops(m, k, n) / least_bytes(k, m, n, itemsize)",
     "the three products m k, k n and m n stay the same three when m and k change places"),
]
