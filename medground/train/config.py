"""The one page that shapes a training: typed, read from TOML (`medground.train.recipe`), saved with each run.

Unknown keys are refused. Every field has a default but `name`, `kind`, `rate` and the training rows; the recipes in
``recipes/`` say which of them matter for which model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["DataConfig", "GrpoConfig", "LoraConfig", "SftConfig", "TrainConfig"]

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Named = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Part):
    """What is trained on.

    Parameters
    ----------
    train : str or None
        A parquet file in U-MRG's layout, or a folder of them, of which the rows of split ``train`` (or of none) count.
        None where visual questions alone are trained on.
    val : str or None
        The same for validation (split ``val`` or none); no checks are made where None.
    vqa, vqa_val : list of str, or None
        Files (or folders) of visual questions in our own parquet layout (`medground.data.layouts.vqa`), mixed with the
        rows above. A visual question is asked by its own prompt, learned with its mentions and regions, and rewarded by
        ``grpo.vqa_recipe``.
    vqa_share : float or None
        The share of an epoch's examples that are visual questions. As often as there are any where None; else an epoch
        shows each of them less or more than once, and all of the other rows.
    vqa_limit : float or None
        Use so many visual questions, drawn evenly by the seed; below 1, a share of them. All where None.
    root : str or None
        The folder at which relative paths of pictures start; the parquet file's own where None.
    mode : {"reason", "direct", "both"}
        Ask for reasoning, for the answer alone, or each row for one of the two (a quarter of them ``direct``).
    limit, val_limit : int or None
        Use so many rows, drawn evenly by the seed; all of them where None. `val_limit` counts for visual questions too,
        apart.
    weights : dict of str to float
        How often an epoch shows the rows of a source, by its name; 1 where it isn't said. With 0.25 an epoch shows a
        quarter of them and four epochs all, with 3 each of them three times; with 0 never any.
    augment : bool
        Show each picture anew in each epoch (SFT alone): crops, turns, mirrors, brightness, with boxes, points and
        claims measured again. Needs rows with masks; those without are shown as they are. Visual questions are shown
        from farther away and moved, with all their boxes, and with their choices in another order
        (`medground.train.vqa.seen_anew`).
    views : int or None
        Show each row in so many views at most, one an epoch, and then in the same again. A frozen tower looks at each
        once and remembers (`medground.train.once`), which makes later epochs of a small model several times as fast.
    absent : float
        Use this share of the rows whose target is absent, drawn evenly by the seed; all of them with 1. A small model
        that meets many of them learns to call absent what it can't name (docs/log.md).
    drop_words : float
        Leave out each word of a question with this chance (SFT alone), but for those that tell sides apart, and of
        questions whose answer is in the picture. A model whose questions each hold enough words to know the target by
        learns to name it without a look at the picture, and fails on words that it hasn't met. Visual questions keep
        all theirs: without one of its words a question may have another answer.
    by_name : float
        Ask for this share of the rows' targets by their names ("Where is the left kidney?") instead of by the rows' own
        questions, which never name them; a model that has met no names doesn't know what newcomers ask for first.
    traces : {"own", "plain"}
        Teach the rows' own reasoning, or, for rows of the offline grammars, what a small model learns quickly: the two
        short sentences of `medground.train.varied.plain_trace`, and of a visual question's thinking those that name
        its regions (`medground.train.vqa.plain_thinking`).
    omit_claims : float
        Leave out each claim of a plain trace with this chance (SFT alone), so that what to claim can be learned from
        rewards.
    """

    train: str | None = None
    val: str | None = None
    vqa: tuple[Named, ...] | None = None
    vqa_val: tuple[Named, ...] | None = None
    vqa_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    vqa_limit: Annotated[float, Field(gt=0)] | None = None
    root: str | None = None
    mode: Literal["reason", "direct", "both"] = "reason"
    limit: Count | None = None
    val_limit: Count | None = 96
    weights: dict[str, Annotated[float, Field(ge=0, le=100)]] = {}
    augment: bool = False
    views: Count | None = None
    absent: Annotated[float, Field(ge=0, le=1)] = 1.0
    drop_words: Annotated[float, Field(ge=0, lt=1)] = 0.0
    by_name: Annotated[float, Field(ge=0, le=1)] = 0.0
    traces: Literal["own", "plain"] = "own"
    omit_claims: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _has_rows(self) -> DataConfig:
        if self.train is None and not self.vqa:
            raise ValueError("train: isn't given; name a parquet file, or visual questions in vqa")
        if self.vqa_share is not None and (self.train is None or not self.vqa):
            raise ValueError("vqa_share: is a share of visual questions among other rows; name both, or leave it out")
        if self.vqa_limit is not None and not self.vqa:
            raise ValueError("vqa_limit: is for visual questions; name their files in vqa, or leave it out")
        if self.views is not None and not self.augment:
            raise ValueError("views are those of augment; set it to true, or leave views out")
        if self.omit_claims and self.traces != "plain":
            raise ValueError("omit_claims is for plain traces; set traces to 'plain', or omit_claims to 0")
        return self


class LoraConfig(_Part):
    """Low-rank adapters in place of all weights.

    Parameters
    ----------
    rank : int
    alpha : float
        The adapter counts alpha / rank.
    dropout : float
    targets : str or tuple of str
        Names of the layers that get one, or ``"all-linear"``: all linear layers of the language model.
    merge : bool
        Lay the adapter into the weights in ``OUT/model``. Where false, ``OUT/model`` holds the adapter alone, which
        ``load_reasoner(MODEL, adapter=OUT/model)`` puts over the model that the run began from.
    """

    rank: Count = 64
    alpha: Annotated[float, Field(gt=0)] = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: str | tuple[str, ...] = "all-linear"
    merge: bool = True


class SftConfig(_Part):
    """What supervised training alone has.

    Parameters
    ----------
    soft_coordinates : float
        Width of the hump over neighbouring numbers that is the target of a coordinate, in thousandths of the picture;
        other numbers have one that is a tenth as wide (`medground.train.numbers`). 0 is plain next-token loss. For
        models whose numbers 0 to 1000 are single tokens.
    text_weight : float
        Weight of the words' loss against the numbers', where `soft_coordinates` is above 0.
    answer_weight : float
        Weight of a further loss, of the words of visual questions' answers alone (`medground.train.answered`), where
        `soft_coordinates` is above 0. An answer is two words among thirty, and the only ones that are hard to tell.
    max_tokens : int
        A row with more tokens, image included, is refused: a cut answer would teach cut answers.
    """

    soft_coordinates: NonNegative = 0.0
    text_weight: NonNegative = 0.5
    answer_weight: NonNegative = 0.0
    max_tokens: Count = 4096

    @model_validator(mode="after")
    def _has_numbers(self) -> SftConfig:
        if self.answer_weight and not self.soft_coordinates:
            raise ValueError("answer_weight goes with soft_coordinates; set that above 0, or answer_weight to 0")
        return self


class GrpoConfig(_Part):
    """What reinforcement learning alone has; names in parentheses are those of `trl.GRPOConfig`.

    Parameters
    ----------
    recipe : str
        A recipe of `medground.rewards`, or the dotted path of one.
    weights : dict of str to float
        Changes to the recipe's weights.
    vqa_recipe, vqa_weights
        The same for visual questions. Each row is scored by the recipe of its own task alone, and its terms are logged
        under that recipe's name.
    generations : int
        Completions of one prompt, the group (num_generations).
    beta : float
        Weight of the KL divergence to the model at the start, low-variance estimator; 0 needs no second model.
    temperature, top_p
        How completions are drawn.
    max_completion : int
        Tokens of a completion; what is cut off there can't be read and earns 0.
    epsilon, epsilon_high
        How far a token's probability ratio counts, below and above 1; `epsilon` both ways where `epsilon_high` is None.
    loss_type : str
        ``grpo``, ``dr_grpo``, ``dapo``, ``bnpo``, ...: how tokens and sequences are averaged.
    scale_rewards : {"group", "batch", "none"}
        By whose standard deviation advantages are divided.
    credit : {"completion", "number", "part"}
        Whether all tokens of a completion share its advantage, each number of the answer has its own, or each number
        and each claim of the reasoning; see `medground.train.credit`. For the latter two, one prompt's completions must
        lie in one process. In completions of visual questions all tokens share it in any case: a final box is written
        twice, and one number exchanged in one of the two places would tell of their agreement alone.
    iterations : int
        Updates made from the same completions (num_iterations).
    steps_per_generation : int or None
        Forward passes served by one round of generation; `accumulation` where None.
    mask_truncated : bool
        Leave completions that were cut off out of the loss.
    vllm : {"off", "colocate", "server"}
        Who generates: the trained model itself, vLLM on the same GPU, or a vLLM server.
    server : str or None
        Where the vLLM server is, ``http://host:8000``; port 8000 of the machine with the first process where None.
    """

    recipe: str = "medground"
    weights: dict[str, float] = {}
    vqa_recipe: str = "thinkvg"
    vqa_weights: dict[str, float] = {}
    generations: Annotated[int, Field(ge=2)] = 8
    beta: NonNegative = 0.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_completion: Count = 2048
    epsilon: Annotated[float, Field(gt=0)] = 0.2
    epsilon_high: Annotated[float, Field(gt=0)] | None = None
    loss_type: str = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    credit: Literal["completion", "number", "part"] = "completion"
    iterations: Count = 1
    steps_per_generation: Count | None = None
    mask_truncated: bool = False
    vllm: Literal["off", "colocate", "server"] = "off"
    server: Annotated[str, Field(pattern=r"^https?://[^/\s]+$")] | None = None


class TrainConfig(_Part):
    """Everything that shapes a run.

    Parameters
    ----------
    name : str
        Written into the model's folder, and the run's folder where `out` is None.
    kind : {"sft", "grpo"}
    model : str
        What the run starts from: ``"nano"``, a model folder or a hub id.
    out : str or None
        The run's folder; ``runs/NAME`` where None.
    seed : int
    template, coordinates : str or None
        Prompt template and ruler of the answers; what the model's ``medground.json`` or its family says where None.
    lora : LoraConfig or None
        All weights learn where None.
    freeze_vision : bool
        Leave the vision tower as it is (what maps its output to the language model still learns).
    frozen : tuple of str
        Names of modules that stay as they are, such as ``"timm_model.stages.0"``: all whose full name ends so. For the
        first layers of a tower no gradient is computed then, which is where much of its time goes.
    batch_statistics : bool
        Let batch normalisation follow the batches (SFT of all weights alone), as a tower that is still far from its
        task wants it. A step then depends on how it is cut into batches and processes; it doesn't where the model's
        own statistics are kept.
    gradient_checkpointing : bool
        Compute activations again instead of keeping them: less memory, about a third more time.
    bf16 : bool
        Compute in bfloat16; weights that learn stay float32.
    max_pixels : int or None
        Pixel budget of the picture that the model is shown; `medground.reasoners` has the default.
    steps, epochs
        How long; `steps` counts where both are given.
    stop_after : int or None
        End after so many of the steps, at the rates that they have in the whole: for a first phase that another run
        goes on from.
    batch : int
        Sequences that go through the model at once, per device; rows for SFT, completions for GRPO.
    accumulation : int
        So many batches make one step.
    rate : float
        Peak learning rate.
    vision_rate : float or None
        The vision tower's own; `rate` where None.
    schedule : str
        A scheduler of transformers: ``cosine``, ``linear``, ``constant_with_warmup``, ``warmup_stable_decay``, ...
    warmup : float
        Steps until the rate has risen to its peak; below 1, a share of all steps.
    decay : float
        For ``warmup_stable_decay``: the last share of all steps, in which the rate falls to zero.
    weight_decay, max_grad_norm : float
    eval_every, save_every, log_every : int
        Steps between checks on validation rows, checkpoints and lines of the log.
    segmenter : str or None
        At checks, also tell the Dice of the masks that this segmenter draws from the answers (``"litemedsam"``).
    keep : int
        How many checkpoints are kept.
    workers : int
        Processes that read and prepare rows; 0 is the training's own.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    kind: Literal["sft", "grpo"]
    model: Annotated[str, Field(min_length=1)] = "nano"
    out: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    template: str | None = None
    coordinates: str | None = None
    data: DataConfig
    lora: LoraConfig | None = None
    freeze_vision: bool = False
    frozen: tuple[Named, ...] = ()
    batch_statistics: bool = False
    gradient_checkpointing: bool = False
    bf16: bool = True
    max_pixels: Count | None = None
    steps: Count | None = None
    epochs: Annotated[float, Field(gt=0)] = 1.0
    stop_after: Count | None = None
    batch: Count = 1
    accumulation: Count = 1
    rate: Rate
    vision_rate: Rate | None = None
    schedule: Literal[
        "linear",
        "cosine",
        "cosine_with_min_lr",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
        "polynomial",
        "warmup_stable_decay",
    ] = "cosine"
    warmup: NonNegative = 0.03
    decay: Share = 0.2
    weight_decay: NonNegative = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    eval_every: Count = 100
    save_every: Count = 100
    segmenter: str | None = None
    keep: Count = 2
    log_every: Count = 10
    workers: Annotated[int, Field(ge=0)] = 0
    sft: SftConfig = SftConfig()
    grpo: GrpoConfig = GrpoConfig()

    @model_validator(mode="after")
    def _belongs_together(self) -> TrainConfig:
        other = "grpo" if self.kind == "sft" else "sft"
        if other in self.model_fields_set:
            raise ValueError(f"[{other}] has no say in a run of kind {self.kind!r}; remove it, or change kind")
        if self.kind == "grpo" and self.data.drop_words:
            raise ValueError("data.drop_words is for kind 'sft'; set it to 0")
        if self.kind == "grpo" and self.data.augment:
            raise ValueError("data.augment is for kind 'sft'; a group's reward needs one truth: set it to false")
        if self.kind == "grpo" and self.data.vqa and self.data.mode == "direct":
            raise ValueError("data.mode 'direct': visual questions are rewarded for their reasoning; set it to 'both'")
        if self.grpo.credit != "completion" and self.grpo.scale_rewards == "batch":
            raise ValueError(
                f"grpo.credit = {self.grpo.credit!r} compares within groups; set scale_rewards to 'group' or 'none'"
            )
        if self.batch_statistics and (self.kind == "grpo" or self.lora is not None or self.freeze_vision):
            raise ValueError(
                "batch_statistics is for kind 'sft' where all weights learn (in GRPO a batch is one picture several "
                "times over); set it to false"
            )
        if self.freeze_vision and self.vision_rate is not None:
            raise ValueError("vision_rate has no say where freeze_vision is true; remove one of the two")
        return self

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.out) if self.out is not None else Path("runs") / self.name

    def settings(self) -> dict[str, Any]:
        """Return all settings as JSON values, less those of the other kind; `TrainConfig.model_validate` reads them."""
        return self.model_dump(mode="json", exclude={"grpo" if self.kind == "sft" else "sft"})
