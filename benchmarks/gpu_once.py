"""Each kernel once, forth and back, at small sizes, for compute-sanitizer to look at.

compute-sanitizer --tool memcheck python benchmarks/gpu_once.py
"""

import argparse

from gpu_check import open_place

from tinygrad_lm.engine.op import Op


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="on the emulator, without a GPU")
    args = parser.parse_args(arguments)
    with open_place(args.rehearse) as place:
        place.tiny = True
        once(place)


def once(place):
    from gpu.cases import rule_cases
    from gpu.kernels import columns, one_update, results, squares

    with place.unpooled():
        for case in rule_cases(place):
            for dtype in case.dtypes:
                y, backward = Op.registry[case.name].run(*(make(dtype) for make in case.inputs), **case.options)
                results(y, backward(place.normal(99, y.shape, y.dtype.name)))
                place.synchronize()
                print(f"ran: {case.label} {dtype}", flush=True)
        for name, function in (("columns", lambda: columns(place, "float32")), ("adamw", lambda: one_update(place)),
                               ("squares", lambda: squares(place))):  # fmt: skip
            function()
            print(f"ran: {name}", flush=True)


if __name__ == "__main__":
    main()
