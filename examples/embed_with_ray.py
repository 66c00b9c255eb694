"""Embeds a text file, or a folder of pictures, with Ray Data: every worker holds a model; the result is Parquet files.

    pip install 'plait[ray]'
    python examples/embed_with_ray.py captions.txt --model all-MiniLM-L6-v2 --out vectors --workers 4
    python examples/embed_with_ray.py photos --model clip-vit-base-patch32 --out vectors --workers 4 --threads 2

On one machine, workers times threads should be the number of cores. Few workers of several threads hold fewer models in
memory, many of one thread are a little faster.

On a cluster the same script runs unchanged:

* Start it on the head node, or from outside with
  ``ray job submit --address http://HEAD:8265 --working-dir . -- python embed_with_ray.py ...``.
  It joins the cluster that RAY_ADDRESS names, as such a job is told, and starts a local one where there is none.
* Model, input and output are paths that all nodes see: a shared file system, or for input and output any address that
  Ray Data reads (``s3://bucket/photos``). The weights are mapped, so that the workers of a node share their pages.
  Where nothing is shared, put the model's folder into the image of the nodes or into the working directory of the job.
* ``--workers`` counts over all nodes. Ray places an actor where ``--threads`` cores are free and tells it so in
  OMP_NUM_THREADS, which plait obeys: nothing else has to be set. Leave a core or two over all, for the tasks of Ray
  that read and write: where actors hold every core, the job waits for ever.
* Ray starts an actor that died again and repeats its batch. For a job that must go on after the whole cluster was lost,
  cut the input into parts, and run the script for each part that has no output yet.
"""

import argparse
import os

import ray

import plait


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="a text file (.txt), one text a line; or a folder of pictures")
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--out", required=True, help="folder for the Parquet files")
    parser.add_argument("--workers", type=int, default=2, help="models at work (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="cores of each (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, help="rows that a worker gets at once")
    arguments = parser.parse_args()

    if "RAY_ADDRESS" not in os.environ:
        cores = arguments.workers * arguments.threads
        ray.init(num_cpus=cores + 1, include_dashboard=False)  # one for reading and writing, which take little
    if arguments.input.endswith(".txt"):
        data = ray.data.read_text(absolute(arguments.input), drop_empty_lines=False)
        columns = {"texts": {"text": "vector"}, "truncate": True}
    else:
        data = ray.data.read_binary_files(absolute(arguments.input), include_paths=True)
        columns = {"images": {"bytes": "vector"}, "on_error": "skip"}  # zeros for what is no picture
    data = data.map_batches(
        plait.Embedder,
        fn_constructor_args=[os.path.abspath(arguments.model)],
        fn_constructor_kwargs=columns,
        batch_size=arguments.batch_size,
        compute=ray.data.ActorPoolStrategy(size=arguments.workers),
        num_cpus=arguments.threads,
    )
    if "images" in columns:
        data = data.drop_columns(["bytes"])
    data.write_parquet(absolute(arguments.out))
    print(f"{arguments.out}: Parquet files with a column vector; ray.data.read_parquet reads them")


def absolute(path):
    """Workers have a working directory of their own."""
    return path if "://" in path else os.path.abspath(path)


if __name__ == "__main__":
    main()
