"""A report card: what several chat models, or one at several times, answer to the same held-out prompts.

It is Markdown, and says what the models' runs cost and where their curves ended.
"""

from tinygrad_lm.generation.generate import generate_batch
from tinygrad_lm.posttrain.chat.load import load_chat
from tinygrad_lm.posttrain.verifiers.verifiers import VERIFIERS, best_constant
from tinygrad_lm.threads import peak_memory
from tinygrad_lm.train.data import digits
from tinygrad_lm.train.run import RunFolder

SHOWN = 70  # characters of a prompt or an answer


def report_card(folder, stages, prompts, limit):
    """The card of the runs folder/stage. prompts: Conversations without their answers; limit: tokens an answer"""
    answers = {stage: likeliest_answers(*load_chat(str(folder / stage), "cpu"), prompts, limit) for stage in stages}
    return "\n\n".join(
        [
            "# From text to an assistant",
            f"Answers that are right, word for word, to {len(prompts):,} held-out prompts. The constant is the one "
            "answer that is right most often, whatever is asked.",
            marks_table(prompts, answers),
            "The first held-out prompt of each task, and what is answered:",
            answers_table(prompts, answers),
            "What it cost. A token is a byte, or one of the five that say who speaks.",
            costs_table([RunFolder(folder / stage) for stage in stages]),
            f"At most {peak_memory() / 2**20:.0f} MiB of memory, in the process that wrote this.",
            "Where the curves ended, and the lowest loss that is possible in expectation:",
            losses_table([RunFolder(folder / stage) for stage in stages]),
            *(
                f"![{stage}]({stage}/{path.name})"
                for stage in stages
                for path in sorted((folder / stage).glob("*.png"))
            ),
        ]
    )


def likeliest_answers(model, chat, prompts, limit):
    """[(text, whether it is right), …]: the likeliest token after the likeliest token, to each prompt's end."""
    ids = [chat.prompt(prompt.messages) for prompt in prompts]
    drawn = [[] for _ in prompts]
    for row, token, *_ in generate_batch(model, ids, limit, stop=lambda ids: ids[-1] in chat.ends, temperature=0):
        drawn[row].append(token)
    found = [chat.parse(answer) for answer in drawn]
    return [
        (text, ended and VERIFIERS[prompt.verifier](text, prompt.answer) == 1)
        for (text, ended), prompt in zip(found, prompts, strict=True)
    ]


def marks_table(prompts, answers):
    """The share of right answers by task and stage, and that of the best constant answer."""
    rows = [["task", "prompts", "constant", *answers]]
    tasks = sorted({prompt.task for prompt in prompts})
    for task in (*tasks, None):
        asked = [i for i, prompt in enumerate(prompts) if task in (prompt.task, None)]
        shares = [sum(found[i][1] for i in asked) / len(asked) for found in answers.values()]
        constant = best_constant(VERIFIERS["equal"], [prompts[i].answer for i in asked])[1]
        rows.append([task or "**all**", f"{len(asked)}", *(f"{share:.1%}" for share in (constant, *shares))])
    return markdown(rows)


def answers_table(prompts, answers):
    """The first prompt of each task, and what is answered at each stage."""
    rows = [["prompt", "right", *answers]]
    first = {prompt.task: i for i, prompt in reversed([*enumerate(prompts)])}
    for _, i in sorted(first.items()):
        asked = " ⏎ ".join(message["content"] for message in prompts[i].messages)
        rows.append([cell(text) for text in (asked, prompts[i].answer, *(found[i][0] for found in answers.values()))])
    return markdown(rows)


def costs_table(runs):
    rows = [["stage", "weights", "steps", "tokens", "minutes in steps"]]
    for run in runs:
        seconds, config = sum(run.log.curve("seconds")[1]), run.train_config
        rows.append(
            [run.path.name, f"{weights(run):,}", f"{config.steps:,}", f"{tokens(run):,.0f}", f"{seconds / 60:.1f}"]
        )
    return markdown(rows)


def weights(run):
    _, state = run.read_checkpoint()
    return sum(x.size for x in state["model"].values())


def tokens(run):
    """How many tokens a run has computed gradients for; of rows that are packed, with the padding at their ends."""
    config = run.train_config
    rows = config.batch_size * config.accumulate
    if "method" in run.config:  # answers, whose lengths are logged
        return rows * sum(run.log.curve("length")[1])
    return rows * config.steps * run.model_config.block_size


def losses_table(runs):
    """The first and the last evaluation of each run, of a mixture by source.

    Where nothing is said of the floor it is 0: answers follow from what is asked.
    """
    rows = [["stage", "what", "first", "last", "lowest possible"]]
    for run in runs:
        floors, curves, (result, results) = run.config["floors"], run.log.curves("validation_sources"), run.log.result()
        found = [
            (f"{source}, {run.unit}", losses[0], results[source], floors[source])
            for source, (_, losses) in curves.items()
            if floors
        ]
        found = found or [(" ".join(run.config["measure"]), run.log.curve("validation")[1][0], result, 0.0)]
        rows += [[run.path.name, what, *map(digits, figures)] for what, *figures in found]
    return markdown(rows)


def markdown(rows):
    """A table in Markdown. rows: lists of texts, the first of them the head"""
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))


def cell(text):
    """A text as a table can show it: on one line, as it is."""
    shown = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return "`" + shown.replace("\n", " ⏎ ").replace("|", "\\|").replace("`", "'") + "`" if shown else ""
