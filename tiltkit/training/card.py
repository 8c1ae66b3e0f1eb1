"""The model card of a trained prior, in markdown beside the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tomli_w

from tiltkit.training.outcome import Outcome

if TYPE_CHECKING:
    from tiltkit.training.recipe import TrainRecipe

__all__ = ["as_toml", "card", "notes", "value_range"]


def value_range(outcome: Outcome) -> str:
    """Meaning of the image value 1, in words."""
    data, scans = outcome.job.recipe.data, outcome.job.recipe.scans
    if scans:
        return f"as the task {scans.task['name']} scales its images: bright = 1"
    after = f" after adding {data.offset:g}" if data.offset else ""
    if isinstance(data.scale, str):
        whose = "each subject" if data.scale == "subject" else "all subjects together"
        return (
            f"percentile {data.percentile:g} of the bright pixels of {whose}{after} = 1 (bright:"
            " above a tenth of the brightest)"
        )
    return f"{data.scale:g} in units of the files{after} = 1"


def notes(outcome: Outcome) -> dict[str, str]:
    """Metadata of the weights file."""
    data = outcome.job.recipe.data
    return {
        "title": data.title,
        "value_range": value_range(outcome),
        "licence": data.licence,
        "kind": data.kind,
        "crop": str(outcome.job.recipe.training.crop),
        "training": outcome.job.recipe.model_dump_json(),
        "psnr": _figures(outcome),
    }


def card(outcome: Outcome) -> str:
    """The whole card."""
    job, best = outcome.job, outcome.best
    recipe, path = job.recipe, job.output
    facts = "\n".join(f"| {name} | {value} |" for name, value in job.facts().items())
    cautions = "\n".join(f"* {caution}" for caution in outcome.cautions()) or "* None was found."
    return f"""# {recipe.data.title} (`{path.name}`)

A denoising network: given an image with Gaussian noise of a known level, it returns the
posterior mean of the clean image, from which tiltkit takes the score.

    tiltkit run {_task(recipe)} SCAN --prior network -s prior.weights={path.name}

| | |
|---|---|
| network | `tiltkit.priors.network.ScoreUNet`, {outcome.parameters:,} parameters, any image size |
| channels | {recipe.channels}{": re, im" if recipe.data.kind == "complex" else ""} |
| value range | {value_range(outcome)} |
| noise range | {job.sigma_range[0]:.3g} to {job.sigma_range[1]:.3g} per channel |
| sha256 | `{outcome.sha256}` |
| licence of the images | {recipe.data.licence} |

## Training

| | |
|---|---|
{facts}

{_training(outcome)}

## How good it is

PSNR in dB for peak 1 on {_measured_on(recipe)}, after step {best.step}. Total
variation has, at each noise level, the best of several strengths, chosen with the truth at hand.

{table(outcome)}

## Limits

{cautions}
* It is meant for images like those of its training. On others it can be wrong with a small
  spread: compare with another prior, and read the certificate of the run{_on_warnings(recipe)}.
* Subjects were held out from the weights, but the best check was chosen on them.
* Nobody has reviewed it for clinical or other regulated use.

## How to train it again

    tiltkit train recipe.toml

with this `recipe.toml`, where every setting is written out:

```toml
{as_toml(recipe)}```
"""


def table(outcome: Outcome) -> str:
    """PSNR per noise level as a markdown table."""
    rows = {
        "this network": outcome.best.psnr,
        "total variation": outcome.tv,
        "noise": outcome.noise_only,
    }
    lines = [
        "| noise level | " + " | ".join(f"{s:g}" for s in outcome.levels) + " |",
        "|---" * (len(outcome.levels) + 1) + "|",
    ]
    lines += [
        f"| {name} | " + " | ".join(f"{x:.2f}" for x in row) + " |" for name, row in rows.items()
    ]
    return "\n".join(lines)


def as_toml(recipe: TrainRecipe) -> str:
    """All settings as text that ``tiltkit train`` reads; what is unset is left out."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def _on_warnings(recipe: TrainRecipe) -> str:
    """Clause about the warning for images that differ from the training images."""
    if recipe.data.noise:
        return ", which cannot compare its images with these noisy ones"
    return ", which warns where its images differ from these"


def _task(recipe: TrainRecipe) -> str:
    return str(recipe.scans.task["name"]) if recipe.scans else "TASK"


def _measured_on(recipe: TrainRecipe) -> str:
    if recipe.scans is None:
        return "held-out images"
    return (
        "images drawn from the posteriors of held-out scans, under the prior of the round before"
        " (agreement with what was measured, not with a truth)"
    )


def _training(outcome: Outcome) -> str:
    record, training = outcome.record, outcome.job.recipe.training
    why = "the budget was spent" if outcome.why == "budget" else "nothing improved any more"
    recipe = outcome.job.recipe
    how = "Denoising score matching"
    if recipe.data.noise:
        how = "Recorrupted-to-recorrupted denoising of noisy images"
    if recipe.scans:
        how = "Expectation maximisation (arXiv:2405.13712), in every round denoising score matching"
    return (
        f"{how} with EDM's weighting and preconditioning (arXiv:2206.00364), AdamW, a cosine from"
        f" {training.rate:g} to zero, average of the weights ({training.average:g}), seed"
        f" {recipe.seed}. {outcome.steps} in {record.seconds:.0f} s on"
        f" {outcome.device}, {outcome.precision}, until {why}."
    )


def _figures(outcome: Outcome) -> str:
    pairs = zip(outcome.levels, outcome.best.psnr, strict=True)
    return ", ".join(f"{level:g}: {psnr:.2f} dB" for level, psnr in pairs)
