"""Kernels that are written from a neuron's own `step`: forward and backward over a window.

    graph           the reading that notes what one step does, operation by operation
    reverse         the step backward, and which values of the way there the way back keeps

for the CPU:

    source          the text of both, in LLVM's language
    ir              that language, as far as kernels use it
    compiled        from the text to machine code, once for all processes of a user
    threads         the threads that run it: torch's own
    host            whether a kernel can be run, and where it is
    window          the two as a function that autograd knows

of recurrent units on the CPU:

    cell            their step as a graph, with the product of a state and a weight; and the step backward
    cell_source     the text of both
    cell_window     the two as a function that autograd knows

for GPUs:

    triton_body     the operations of a step in Triton's language
    triton_text     the text of both, as functions that Triton compiles
    triton_window   the two as a function that autograd knows

On the CPU, neurons are taken in blocks that fit the cache, each through all of time: what a step makes and the next one
reads never leaves it. On a GPU it never leaves the registers. Spikes and states have the same bits as the derived
loop's. Recurrent units have sums in another order, and so other last bits: the same in every run on one machine.
"""
