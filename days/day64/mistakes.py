"""Day 64 · Mistakes that people make when they ship; each makes tests/test_day64.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="GPT-NeoX's fused matrix is written queries first, then keys, then values",
        file="llm/weights/forms.py",
        right='        "up": ["mlp.dense_h_to_4h"], "down": ["mlp.dense_4h_to_h"]}, head_by_head),',
        wrong='        "up": ["mlp.dense_h_to_4h"], "down": ["mlp.dense_4h_to_h"]}),',
        symptom="The shapes fit, the file loads without a warning, what we write we read back, and "
                "transformers writes nonsense from it: a third of its queries are keys."),
    Mistake(
        title="The shape of a tensor in a GGUF file is written as NumPy has it",
        file="llm/weights/export_gguf.py",
        right='struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1],',
        wrong='struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape,',
        symptom="Square matrices are right. All others are refused for their shape or, in a reader "
                "that does not look, read across their rows."),
    Mistake(
        title="A tensor's place is counted without the bytes that fill up the one before",
        file="llm/weights/export_gguf.py",
        right="        at += data.nbytes + -data.nbytes % ALIGNMENT\n",
        wrong="        at += data.nbytes\n",
        symptom="Sizes that are multiples of 32 hide it. After the first odd one, every tensor is "
                "read some bytes too early."),
    Mistake(
        title="The file does not say what ends a text",
        file="llm/weights/export_gguf.py",
        right="    ends = end_ids(tokenizer) or [i for i, piece in tokenizer.pieces.items() "
              "if piece == NEVER]",
        wrong="    ends = end_ids(tokenizer)",
        symptom="llama.cpp assumes id 11 and stops in the middle of sentences, wherever the piece "
                "with this id (a vertical tab for us, a comma in GPT-2's vocabulary) is chosen."),
    Mistake(
        title="Nobody tells the worker that a client hung up",
        file="llm/generate/delivery.py",
        right="            task.cancel()\n        worker.cancel(served)",
        wrong="            task.cancel()",
        symptom="The server writes to its end every answer that nobody reads any more. Under load, "
                "impatient clients who ask again make it slower for all."),
    Mistake(
        title="What ended a request is told before its last text is there",
        file="llm/generate/worker.py",
        right="        self.metrics.add(\"requests_total\", 1, reason=request.reason)",
        wrong="        request.tell(request.news()._replace(text=\"\"))\n"
              "        self.metrics.add(\"requests_total\", 1, reason=request.reason)",
        symptom="Answers end early, once in a while: whoever waits for the reason stops listening, "
                "and the rest of the text comes too late."),
    Mistake(
        title="A fault in one request is a fault of the batch",
        file="llm/generate/served.py",
        right="        except Exception as error:\n",
        wrong="        except MemoryError as error:\n",
        symptom="One client's impossible wish ends the answers of all others, and the server with "
                "them."),
]

EQUIVALENT = [
    ("llm/generate/chat.py",
     "room = min(model.arch.T, options.context) if options.context else model.arch.T",
     "the smaller of two in any order"),
    ("llm/generate/worker.py", "self.context = min(blocks * size, arch.T)",
     "the smaller of two in any order"),
    ("llm/weights/export_gguf.py", "blocks = np.asarray(rows, np.float32).reshape(-2, 32)",
     "NumPy takes any negative length for the one that is left open"),
]
