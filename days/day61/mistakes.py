"""Day 61 · Mistakes that people make with many ranks; each makes tests/test_day61.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The mean of the ranks' means",
        file="llm/scale/data_parallel.py",
        right="return Share(self, value, mean, count / max(everyone, 1)), int(everyone)",
        wrong="return Share(self, value, mean, 1 / self.comm.size), int(everyone)",
        symptom="With equal rows all is right. With padded rows or answers of unequal length the "
                "loss still falls, but a token on a rank with few targets counts for more than "
                "one on a rank with many."),
    Mistake(
        title="The gradients are summed after every batch that is accumulated",
        file="llm/scale/data_parallel.py",
        right="        if self.batches % self.accumulate:\n            go_back(value, seed)\n"
              "            return\n",
        wrong="",
        symptom="With accumulate=1 nothing is wrong. With more, what the first batches gave is "
                "summed over the ranks again and again, and weighs as much more."),
    Mistake(
        title="The second half of the ring adds what it should copy",
        file="llm/scale/allreduce.py",
        right="        mine[...] = comm.recv(mine, (r - 1) % p)",
        wrong="        mine += comm.recv(mine, (r - 1) % p)",
        symptom="Two ranks and more get other sums, each its own, and drift apart from the first "
                "step on; check_equal says so."),
    Mistake(
        title="A message is sent without a copy",
        file="llm/scale/comm.py",
        right='        self.put(np.array(array, order="C"), to)',
        wrong="        self.put(array, to)",
        symptom="Mostly right. Now and then the receiver sees what the sender wrote into its "
                "array after sending: sums that are wrong only when a rank is late."),
    Mistake(
        title="A bucket is sent when its first gradient has arrived",
        file="llm/scale/data_parallel.py",
        right="        self.missing = [{id(p) for p in bucket} for bucket in buckets]",
        wrong="        self.missing = [{id(bucket[-1])} for bucket in buckets]",
        symptom="With one tensor a bucket all is right. With larger buckets some gradients are "
                "sent before they exist, as zeros, and the rank then goes on with what it got."),
    Mistake(
        title="Every rank takes the same rows",
        file="llm/scale/data_parallel.py",
        right="        mine = chunks(rows, comm.size)[comm.rank]",
        wrong="        mine = chunks(rows, comm.size)[0]",
        symptom="All ranks agree, the loss falls, and p ranks learn no more from a step than one "
                "rank would from its p-th part of the batch."),
]

EQUIVALENT = [
    ("llm/scale/cores.py", "return max(min(cores(), (os.cpu_count() or 1) // ranks), 1)",
     "the larger of two in any order"),
    ("llm/scale/data_parallel.py", "buckets, size = [], 1",
     "the first Tensor begins a bucket, which sets it to 0"),
    ("llm/scale/data_parallel.py",
     "self.reached = False                           # has this step given gradients here?",
     "the first batch of a step sets it before it is read; here it is only declared"),
    ("llm/scale/link.py", "end = max(there, end) + takes", "the larger of two in any order"),
]
