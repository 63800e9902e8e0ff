"""Write docs/scale.md: what GRPO of a 7B model costs, worked out on paper: python docs/scale.py."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medground._io import write_text

PAGE = Path(__file__).parent / "scale.md"


@dataclass(frozen=True)
class Model:
    """A decoder with grouped key-value heads behind a vision tower; sizes as in the model's config.json."""

    hidden: int = 3584
    between: int = 18944
    layers: int = 28
    keys: int = 512  # key-value heads x their size
    vocabulary: int = 152064
    tower_hidden: int = 1280
    tower_between: int = 3420
    tower_layers: int = 32
    merged: int = 4  # patches that become one token
    patch: int = 3 * 2 * 14 * 14  # numbers of a patch: channels x frames x side x side

    @property
    def block(self) -> int:
        """Weights of the decoder's matrices that each token goes through, output matrix included."""
        attention = 2 * self.hidden * (self.hidden + self.keys)
        return self.layers * (attention + 3 * self.hidden * self.between) + self.hidden * self.vocabulary

    @property
    def tower(self) -> int:
        """Weights of the tower's matrices that each patch goes through."""
        layer = 4 * self.tower_hidden**2 + 3 * self.tower_hidden * self.tower_between
        return self.tower_layers * layer + self.patch * self.tower_hidden

    @property
    def bridge(self) -> int:
        """Weights that each picture's token goes through between tower and decoder."""
        wide = self.merged * self.tower_hidden
        return wide * wide + wide * self.hidden

    @property
    def weights(self) -> int:
        """All of them, but vectors: the input embedding is looked up, not multiplied with."""
        return self.block + self.hidden * self.vocabulary + self.tower + self.bridge

    def read(self, tokens: float, picture: float) -> float:
        """FLOPs of one forward pass over a sequence of `tokens`, `picture` of them a picture's.

        2 a weight and token; attention over what came before 2 x layers x hidden x tokens^2 (its half of a square).
        """
        text = 2 * self.block * tokens + 2 * self.layers * self.hidden * tokens**2
        return text + 2 * picture * (self.merged * self.tower + self.bridge)

    @property
    def cached(self) -> int:
        """Bytes of keys and values that a token of a sequence keeps, in bfloat16."""
        return 2 * 2 * self.layers * self.keys


@dataclass(frozen=True)
class Gpu:
    """An H100 SXM, as its maker states it, and how much of that is reached: assumptions."""

    flops: float = 989e12  # bfloat16, dense
    bandwidth: float = 3.35e12  # bytes a second
    memory: float = 80e9  # bytes
    mfu: float = 0.35  # share of the FLOPs, in log-probabilities and learning
    reached: float = 0.6  # share of the bandwidth, in generation
    held: float = 0.9  # share of the memory that generation may hold
    sequences: int = 256  # vLLM's bound on sequences in flight


@dataclass(frozen=True)
class Run:
    """What is trained."""

    rows: int = 14_000
    epochs: int = 5
    questions: int = 128  # a step
    group: int = 16
    prompt: int = 1300  # tokens: the picture's, and about 400 of template and question
    picture: int = 900  # of them: 840 x 840 pixels
    completion: int = 300
    probabilities: int = 2  # passes for log-probabilities: the start's for the KL, the trainer's own of vLLM's draws
    learning: int = 4  # forward, forward again for checkpointing, and backward, which is twice a forward
    distinct: bool = False  # whether the group's shared prompt is computed once

    @property
    def steps(self) -> float:
        """Steps of the run."""
        return self.rows * self.epochs / self.questions

    @property
    def completions(self) -> int:
        """Completions of one step."""
        return self.questions * self.group


@dataclass(frozen=True)
class Cost:
    """GPU seconds of one step, by what they go into."""

    prefill: float
    decode: float
    probabilities: float
    learning: float

    @property
    def generation(self) -> float:
        """Of making completions."""
        return self.prefill + self.decode

    @property
    def total(self) -> float:
        """Of all."""
        return self.generation + self.probabilities + self.learning


def speed(model: Model, gpu: Gpu, run: Run) -> tuple[float, int]:
    """Return the tokens that one GPU generates in a second, and how many sequences it holds at once.

    A pass makes a token of each sequence. The weights are read once for all of them, or multiplied with, whichever
    takes longer; each one's keys and values are read, on average of the prompt and half the completion.
    """
    small = 2 * model.weights
    room = int((gpu.held * gpu.memory - small) / (model.cached * (run.prompt + run.completion)))
    held = min(room, gpu.sequences, run.completions)
    bandwidth = gpu.reached * gpu.bandwidth
    through = max(small / bandwidth, 2 * model.block * held / (gpu.mfu * gpu.flops))
    kept = held * model.cached * (run.prompt + run.completion / 2) / bandwidth
    return held / (through + kept), held


def cost(model: Model, gpu: Gpu, run: Run) -> Cost:
    """Return the GPU seconds of a step."""
    length = run.prompt + run.completion
    if run.distinct:  # the prompt once a group, each completion by itself
        sequences = run.questions * model.read(run.prompt, run.picture)
        after = model.read(length, 0) - model.read(run.prompt, 0)
        sequences += run.completions * after
    else:
        sequences = run.completions * model.read(length, run.picture)
    useful = gpu.mfu * gpu.flops
    tokens, _ = speed(model, gpu, run)
    return Cost(
        prefill=run.questions * model.read(run.prompt, run.picture) / useful,
        decode=run.completions * run.completion / tokens,
        probabilities=run.probabilities * sequences / useful,
        learning=run.learning * sequences / useful,
    )


def hours(model: Model, gpu: Gpu, run: Run) -> float:
    """Return the GPU hours of a run."""
    return run.steps * cost(model, gpu, run).total / 3600


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Return about two and a half digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


MODEL, GPU = Model(), Gpu()
USUAL = Run()
LIMIT = Run(prompt=2048, picture=1280, completion=2048)


def runs() -> str:
    """Return the table of the recipe's cost at usual lengths and at its limits."""
    rows = []
    for name, run in (("usual: 1300 + 300 tokens", USUAL), ("the limits: 2048 + 2048", LIMIT)):
        parts, (tokens, held) = cost(MODEL, GPU, run), speed(MODEL, GPU, run)
        shares = [parts.generation, parts.probabilities, parts.learning]
        rows.append(
            [
                name,
                number(parts.total),
                *(f"{number(part)} ({part / parts.total:.0%})" for part in shares),
                f"{number(tokens)} ({held})",
                number(run.steps),
                number(hours(MODEL, GPU, run)),
                number(hours(MODEL, GPU, run) / 16),
            ]
        )
    head = ["lengths", "GPU s a step", "generating", "log-probabilities", "learning"]
    return table([*head, "tokens/s/GPU (held)", "steps", "GPU hours", "hours on 16"], rows)


def growth() -> str:
    """Return the table of what a change of one thing does to the cost."""
    changes: list[tuple[str, Run]] = [
        ("as it is", USUAL),
        ("twice the rows, or epochs", replace(USUAL, rows=2 * USUAL.rows)),
        ("32 completions of a question", replace(USUAL, group=32)),
        ("completions of 600 tokens", replace(USUAL, completion=600)),
        ("completions of 2048 tokens", replace(USUAL, completion=2048)),
        ("pictures of 420 x 420 (225 tokens)", replace(USUAL, prompt=625, picture=225)),
        ("pictures of 1680 x 1680 (3600 tokens)", replace(USUAL, prompt=4000, picture=3600)),
        ("no KL: no log-probabilities of the start", replace(USUAL, probabilities=1)),
        ("the prompt once a group, not 16 times", replace(USUAL, distinct=True)),
    ]
    base = hours(MODEL, GPU, USUAL)
    rows = []
    for name, run in changes:
        parts = cost(MODEL, GPU, run)
        whole = hours(MODEL, GPU, run)
        rows.append([name, number(whole), f"x {whole / base:.2f}", f"{parts.generation / parts.total:.0%}"])
    return table(["change", "GPU hours", "", "generating"], rows)


def wrapped(text: str) -> str:
    """Return Markdown with its paragraphs and items filled to 120 columns."""
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith(("#", "|")):
            blocks.append(block)
            continue
        items = re.split(r"\n(?=- )", block)
        blocks.append("\n".join(textwrap.fill(" ".join(item.split()), 120, **_item(item)) for item in items))
    return "\n\n".join(blocks) + "\n"


def _item(text: str) -> dict[str, Any]:
    return {
        "subsequent_indent": "  " if text.startswith("- ") else "",
        "break_long_words": False,
        "break_on_hyphens": False,
    }


def page() -> str:
    """Return docs/scale.md."""
    usual, limit = cost(MODEL, GPU, USUAL), cost(MODEL, GPU, LIMIT)
    weights = MODEL.weights
    shared = cost(MODEL, GPU, replace(USUAL, distinct=True))
    lora = replace(USUAL, questions=8, epochs=1, learning=3)
    slower = replace(GPU, mfu=GPU.mfu / 2, reached=GPU.reached / 2)
    square = 0.1 * MODEL.block / (MODEL.layers * MODEL.hidden)
    text = TEXT.format(
        runs=runs(),
        growth=growth(),
        block=f"{MODEL.block / 1e9:.2f}",
        tower=f"{MODEL.tower / 1e9:.2f}",
        bridge=f"{MODEL.bridge / 1e6:.0f}",
        weights=f"{weights / 1e9:.2f}",
        cached=f"{MODEL.cached / 1000:.0f}",
        small=f"{2 * weights / 1e9:.1f}",
        mfu=f"{GPU.mfu:.0%}",
        reached=f"{GPU.reached:.0%}",
        held=f"{GPU.held:.0%}",
        sequences=GPU.sequences,
        half=number(hours(MODEL, slower, USUAL)),
        lora_step=number(cost(MODEL, GPU, lora).total),
        lora_hours=number(hours(MODEL, GPU, lora)),
        square=f"{square:,.0f}",
        states=f"{16 * weights / 1e9:.0f}",
        start=f"{4 * weights / 1e9:.0f}",
        each=f"{20 * weights / 16 / 1e9:.0f}",
        each32=f"{20 * 32e9 / 16 / 1e9:.0f}",
        each72=f"{20 * 72e9 / 16 / 1e9:.0f}",
        again=f"{1 - shared.learning / usual.learning:.0%}",
        server=number(usual.generation / 4),
        learners=number((usual.total - usual.generation) / 16),
        server_limit=number(limit.generation / 4),
        learners_limit=number((limit.total - limit.generation) / 16),
        fast=f"{4 * weights / 50e9:.2g}",
        slow=f"{4 * weights / 1.25e9:.0f}",
    )
    return wrapped(text)


TEXT = """# What it costs, and where it ends

Made by `python docs/scale.py`; edit the script, not this page. Nothing here was timed on a GPU: it is arithmetic, from
a model's shape and a maker's data sheet, with the assumptions named. `python benchmarks/gpu_step.py` measures a step
where a GPU is at hand.

## GPU hours of recipes/umrg_7b.toml

128 questions x 16 completions a step, 5 epochs over 14,000 rows, a KL to the start, gradient checkpointing, vLLM for
completions, all weights learning; H100 of 80 GB.

{runs}

A run lies between the two, near the first: a prompt takes 900 tokens for a picture of 840 x 840 and about 400 for
template and question, and reasoning of the data set's kind about 300. The paper's 2048 + 2048 are limits. With half the
assumed efficiency of everything the usual run takes {half} GPU hours.

recipes/umrg_7b_lora.toml (one GPU, 8 questions a step, one epoch, adapters: most weights need no gradients, so a
backward pass costs one forward) takes {lora_step} s a step and {lora_hours} hours by the same sums, were vLLM to make
the completions; transformers' own generation holds fewer sequences and is several times slower.

## The sums

A step costs, with Q questions, G completions of each, P tokens of a prompt (I of them the picture's), C of a
completion:

- **Reading T tokens once** takes `F(T, I) = 2 N T + 2 L h T^2 + 2 I (4 V + B)` FLOPs: N = {block} billion weights of
  the decoder's matrices that each token goes through (output matrix included), L = 28 layers of width h = 3584, V =
  {tower} billion of the tower (four patches make a token; its own attention, a twentieth of it, is left out), B =
  {bridge} million between the two. {weights} billion weights in all.
- **Learning** takes `4 Q G F(P + C, I)`: forward, forward again for checkpointing, backward (twice a forward).
- **Log-probabilities** take `2 Q G F(P + C, I)`: those of the model at the start for the KL, and the trainer's own of
  what vLLM drew, since the two differ in the last digits.
- **Reading prompts** before generating takes `Q F(P, I)`: vLLM reads the prompt that a group shares once.
- **Generating**: a pass makes one token of each of S sequences. It takes as long as reading the weights ({small} GB in
  bfloat16) or multiplying with them (`2 N S`), whichever is more, and reading all keys and values ({cached} kB a
  token). S is bounded by memory, `({held} of 80 GB - {small} GB) / ({cached} kB (P + C))`, and by vLLM's {sequences}.

Assumed: {mfu} of the H100's 989 TFLOP/s in bfloat16 (MFU), {reached} of its 3.35 TB/s in generation, sequences of a
mean length so that none waits for the longest, nothing lost between GPUs or between the phases of a step. Rewards are
left out: 2048 completions take 0.07 s (umrg-hard) to 0.43 s (medground) of one core (docs/log.md), and the processes
that train share them.

## How it grows

{growth}

- **Rows and epochs**: in proportion.
- **Completions of a question**: nearly in proportion; only the reading of prompts before generation is shared.
- **Length of completions**: learning and log-probabilities grow with P + C, so at first slowly; generating grows faster
  than C, because longer sequences have more to read and leave room for fewer. Attention's square is below a tenth of
  the rest up to {square} tokens.
- **Pictures**: with their area, and 16 times for each question.
- **Model**: FLOPs in proportion to N. What learns takes 16 bytes a weight (itself, gradient and two moments),
  {states} GB, and the model at the start 4, {start} GB: {each} GB on each of 16 GPUs, before activations. 32 billion
  weights take {each32} GB on each of 16 and fit; 72 billion take {each72} GB and need 32 or more.

## The next bottleneck

**The prompt that is computed 16 times.** Generating shares it, learning doesn't: each sequence of a group goes through
the trainer with its own copy of picture and prompt. Computing them once a group would take {again} off learning and
log-probabilities, more than any other change above. TRL 1.16 can't; verl has `use_prefix_grouper`. Smaller pictures
save in the same place without new code, where the targets stay visible.

**Then the two phases that wait for each other.** With a server of 4 GPUs and 16 that learn, a step is {server} s of the
server and then {learners} s of the others ({server_limit} s and {learners_limit} s at the limits), and one part idles
while the other works. `grpo.vllm = "colocate"`, as verl too, has the same GPUs do both and idles less, but holds both
models in memory. Overlapping the phases means learning from completions of an older model.

**Then the weights on their way to the server**, each step: {start} GB as TRL sends them, in float32. That is {fast} s
over a network of 400 Gbit/s and {slow} s over 10 Gbit/s, half as much as a step of learning.

**And the checks**: with spread weights they generate by transformers, which gathers all weights for each token of an
answer. The scripts ask few rows, seldom; many are better asked of the saved model behind an endpoint.

## What was shown without a GPU

- Two CPU processes take the same steps as one, supervised and by reinforcement: losses, gradient norms, the checks'
  figures and the weights agree (tests/test_train_processes.py).
- So do two that share out the weights by FSDP2, supervised, with the settings of recipes/accelerate_fsdp2.yaml.
  accelerate uses FSDP2 for accelerators alone, so the test tells it that the CPU is one. It showed a fault: of a
  vision-language model's output matrix TRL 1.16 learned each process's part from that process's rows alone.
  `medground.train.spread` mends it. A model whose output matrix is its input embedding too (nano) is refused.
- The accelerate configurations, the scripts' lines and verl's settings are read by the real packages, verl reads our
  export, and its reward manager calls our reward: tests/test_recipes.py.
- Not shown: ZeRO-3 beyond its configuration, vLLM, a training by verl, and anything at all on more than one machine.
"""

if __name__ == "__main__":
    write_text(PAGE, page())
