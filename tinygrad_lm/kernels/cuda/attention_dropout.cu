// Which weights of attention a dropout keeps, drawn once for the forward and the backward kernels.
//
// mask: (B, H, T, ⌈S/64⌉) words: bit j % 64 of word j / 64 says whether query i keeps its weight of key j. The numbers
// are those of the definition, see philox.cuh: entry (h, i, j) of a row of the batch, eight keys a counter; S is a
// multiple of 8. What is drawn ends with the key that a causal query sees last; the rest of that word is zeros, and the
// words after it stay unwritten and are never read. A word is 64 keys and no row begins within one, so that the kernels
// read whole words whatever S is.
//
// A block has eight queries and goes along their keys; a lane draws a byte, and a warp's 32 lie close together, so few
// of them are beyond the diagonal. Memory: T S/8 bytes a head, written once (half of them if causal), kept for the
// backward pass: 50 MB a layer for 32 × 12 heads of GPT-2's 1024 × 1024 weights, 3 MB for 64 × 6 heads of 256 × 256.
// The cost is drawing: about 25 integer instructions a weight.

#include "common.cuh"
#include "philox.cuh"

extern "C" __global__ void attention_mask(word* mask, int T, int S, int H, int causal, const word* counter, word key0,
                                          word key1, unsigned limit) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, h = blockIdx.y, b = blockIdx.z;
    int query = blockIdx.x * 8 + lane / 4;
    if (query >= T) return;
    int end = causal ? query + S - T + 1 : S, words = (S + 63) / 64;
    long long row = h * (long long)T + query;
    unsigned char* bytes = reinterpret_cast<unsigned char*>(mask + (b * (long long)H * T + row) * words);
    for (int i = warp * 4 + lane % 4; i < (end + 63) / 64 * 8; i += blockDim.x / 8)
        bytes[i] = i * 8 < end ? kept({counter, key0, key1, limit, word(b)}, row * (S / 8) + i) : 0;
}
