"""The model card of a trained prior: markdown beside the weights, filled from what is known."""

from __future__ import annotations

from tiltkit.training.outcome import Outcome

__all__ = ["card", "notes", "value_range"]


def value_range(outcome: Outcome) -> str:
    """What the value 1 means."""
    data = outcome.job.recipe.data
    after = f" after adding {data.offset:g}" if data.offset else ""
    if isinstance(data.scale, str):
        whose = "each subject" if data.scale == "subject" else "all subjects together"
        return (
            f"percentile {data.percentile:g} of the bright pixels of {whose}{after} = 1 (bright:"
            " above a tenth of the brightest)"
        )
    return f"{data.scale:g} in units of the files{after} = 1"


def notes(outcome: Outcome) -> dict[str, str]:
    """What the weights file says about itself."""
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
    worries = "\n".join(f"* {worry}" for worry in outcome.worries()) or "* None was found."
    return f"""# {recipe.data.title} (`{path.name}`)

A denoiser made of a network: given an image with Gaussian noise of a known level, it returns the
posterior mean of the clean image, from which tiltkit takes the score.

    tiltkit run TASK SCAN --prior network -s prior.weights={path.name}

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

PSNR in dB for peak 1 on held-out images, after step {best.step}. Total variation has, at each noise
level, the best of several strengths, chosen with the truth at hand.

{table(outcome)}

## Limits

{worries}
* It knows images like those it was trained on. On others it may be wrong and sure at once: compare
  with another prior, and read the certificate of the run.
* Subjects were held out from the weights, but the best check was chosen on them.
* Nobody has reviewed it for clinical or other regulated use.
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


def _training(outcome: Outcome) -> str:
    record, training = outcome.record, outcome.job.recipe.training
    why = "the budget was spent" if outcome.why == "budget" else "nothing improved any more"
    how = (
        "Denoising score matching"
        if not outcome.job.recipe.data.noise
        else "Recorrupted-to-recorrupted denoising of noisy images"
    )
    return (
        f"{how} with EDM's weighting and preconditioning (arXiv:2206.00364), AdamW, a cosine from"
        f" {training.rate:g} to zero, average of the weights ({training.average:g}), seed"
        f" {outcome.job.recipe.seed}. {record.step} steps in {record.seconds:.0f} s on"
        f" {outcome.device}, {outcome.precision}, until {why}."
    )


def _figures(outcome: Outcome) -> str:
    pairs = zip(outcome.levels, outcome.best.psnr, strict=True)
    return ", ".join(f"{level:g}: {psnr:.2f} dB" for level, psnr in pairs)
