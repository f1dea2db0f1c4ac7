"""thaw: which layers of a speech recogniser transfer? The package under the Snakemake workflow."""

__version__ = "0.1.0"
