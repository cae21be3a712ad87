"""An example or two for every command, as its help ends with them; `tests/cli/test_help_pages.py` parses each."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": ("hstnn demo", "hstnn train digits --kind snn", "hstnn help train"),
    "train": (
        "hstnn train digits --kind hybrid --ratio 0.5",
        "hstnn train mine.yaml --epochs 20 --lr 0.001 --device cuda",
        "hstnn train stack-events --data my-recordings --resume",
    ),
    "evaluate": (
        "hstnn evaluate best.pt",
        "hstnn evaluate best.pt --split valid --batch 200 --json",
        "hstnn evaluate best.pt --early-exit --out exits.png",
    ),
    "export": (
        "hstnn export best.pt --out bundle",
        "hstnn export best.pt --form step --int8 dynamic --standalone to-ship",
        "hstnn export best.pt --nir",
    ),
    "verify": ("hstnn verify bundle --ckpt best.pt --strict",),
    "run": (
        "hstnn run bundle --input digit.png",
        "hstnn run bundle --input recording.aedat4 --stream",
        "hstnn run bundle --input x.npy --json",
    ),
    "profile": (
        "hstnn profile best.pt --batch 1,100 --threads 1",
        "hstnn profile digits --kinds rnn,snn --phases train --out records",
        "hstnn profile net.onnx --input x=28,1,28",
    ),
    "recipes": ("hstnn recipes digits > mine.yaml", "hstnn recipes stack-events --shapes"),
    "show": ("hstnn show best.pt --index 3 --out spikes.png", "hstnn show stack-digits"),
    "sweep": (
        "hstnn sweep digits --kinds rnn,snn,hybrid --seeds 1,2,3 --dry-run",
        "hstnn sweep mine.yaml --over train.lr=0.001,0.01 --epochs 20 --then profile",
    ),
    "robustness": (
        "hstnn robustness runs --disturb gaussian=0.1,0.2 --out robustness",
        "hstnn robustness --bundle bundle --draws 10",
    ),
    "pick": ("hstnn pick runs records --min-accuracy 95 --max-energy 40",),
    "report": ("hstnn report runs --out page.html", "hstnn report runs records --format csv,latex --out tables"),
    "compare": ("hstnn compare runs/old runs/new --metric accuracy --fail-if 'accuracy < -0.5'",),
    "demo": ("hstnn demo", "hstnn demo --task stack --out stack-demo"),
    "doctor": ("hstnn doctor", "hstnn doctor --json"),
    "import": (
        "hstnn import net.nir --readout sum",
        "hstnn import my_nets:make --weights weights.pt --input 4,2,34,34",
    ),
    "data": ("hstnn data list", "hstnn data check my-images --write-recipe mine.yaml"),
    "data check": ("hstnn data check my-images --out found.png --write-recipe mine.yaml",),
    "data list": ("hstnn data list --json",),
    "data prepare": ("hstnn data prepare nmnist --data-dir data",),
    "data verify": ("hstnn data verify nmnist",),
    "data show": ("hstnn data show digit-events --label 3 --out threes.png",),
    "data bench": ("hstnn data bench digit-events --batch 64 --threads 1",),
    "data cache": ("hstnn data cache info", "hstnn data cache clear nmnist"),
    "data cache info": ("hstnn data cache info --json",),
    "data cache verify": ("hstnn data cache verify nmnist",),
    "data cache clear": ("hstnn data cache clear nmnist",),
    "runs": ("hstnn runs list", "hstnn runs show runs/digits/snn/seed1111"),
    "runs list": ("hstnn runs list runs --json",),
    "runs show": ("hstnn runs show runs/digits/snn/seed1111",),
    "runs rm": ("hstnn runs rm runs/digits/snn/seed1111 --yes",),
    "runs logs": ("hstnn runs logs runs --follow --lines 5",),
}
"""By the words that name a command; "" is `hstnn` alone."""


def epilog(command: str) -> str:
    """Return what the help of a command ends with."""
    found = EXAMPLES[command]
    return "\n".join([f"Example{'s' if len(found) > 1 else ''}:", *(f"  {each}" for each in found)])
