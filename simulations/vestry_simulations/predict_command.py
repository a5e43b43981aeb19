"""`vestry predict`."""

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["predict_command"]


def predict_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors of a run.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="New rows, CSV or .npz.")],
    out: Annotated[Path | None, typer.Option(help="Write CSV here instead of stdout.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Rows to standardise by, for a per-site study.")
    ] = None,
    allow_plugin: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Third-party task to import.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row.")] = False,
) -> None:
    """Predict for new rows with the model of a finished run. The target column may be absent."""
    from vestry_simulations.predict import predict_file, to_csv
    from vestry_strategies.files import write_atomically

    predictions = predict_file(model, file, tuple(allow_plugin or ()), reference)
    if as_json:
        cells = [column.tolist() for column in predictions.columns.values()]
        for row, *values in zip(predictions.rows.tolist(), *cells, strict=True):
            print(json.dumps({"row": row, **dict(zip(predictions.columns, values, strict=True))}))
        return
    text = to_csv(predictions)
    if out is None:
        print(text, end="")
    else:
        write_atomically(out, text.encode())
        typer.echo(f"{len(predictions.rows)} predictions in {out}")
