"""Day 20 · Mistakes that people make here; each makes tests/test_day20.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the variance is given where the standard deviation is wanted",
        file="llm/layers/init.py",
        right="    return gain * math.sqrt(2 / (positive(cin, \"inputs\") + positive(cout, "
              "\"outputs\")))",
        wrong="    return gain * 2 / (positive(cin, \"inputs\") + positive(cout, \"outputs\"))",
        symptom="The papers' formulas are variances. Every layer makes its signals many times "
                "smaller, and a deep network puts out its biases and nothing else."),
    Mistake(
        title="ReLU is started as if it were linear",
        file="llm/layers/init.py",
        right="def kaiming(cin, gain=ROOT_2):",
        wrong="def kaiming(cin, gain=1.0):",
        symptom="Three layers work. At fifty the last signal is 3e-8, and so is the gradient at "
                "the first layer."),
    Mistake(
        title="the slope is averaged, not its square",
        file="llm/layers/init.py",
        right="    return DENSITY @ out**2, DENSITY @ slope**2",
        wrong="    return DENSITY @ out**2, DENSITY @ slope",
        symptom="For ReLU nothing changes, since its slopes are 0 and 1. For tanh the forecast "
                "says that gradients grow where they shrink."),
    Mistake(
        title="residual branches are scaled by the number of blocks, not of branches",
        file="llm/layers/init.py",
        right="    return std / math.sqrt(2 * positive(layers, \"layers\"))",
        wrong="    return std / math.sqrt(positive(layers, \"layers\"))",
        symptom="Each block has two branches, so the stream still grows: by √3 and not by √2."),
    Mistake(
        title="an orthogonal matrix is taken as QR gives it",
        file="llm/layers/init.py",
        right="    q *= np.sign(np.diag(r))                     # else QR's own choice of signs is "
              "not uniform",
        wrong="    pass",
        symptom="Lengths are kept, but the first entry has the same sign in every network, and "
                "all of them turn the first axis alike."),
]

EQUIVALENT = [
    ("llm/layers/init.py",
     "POINTS = np.arange((-12) - (STEP / 2), 12, STEP)" + 13 * " "
     + "# midpoints: none is 0, where ReLU bends",
     "the same midpoints and one more at -12.005, whose weight of e^-72 no sum notices"),
]
