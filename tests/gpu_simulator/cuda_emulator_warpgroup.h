// The matrix instructions of matrices_warpgroup.cuh, by their definition in the PTX ISA. What a wgmma reads and writes is
// its own from the issue to the wait, and it may run at any time between: in odd orders it runs at once, in even ones at
// the wait, and until then C holds NaN. All four warps must come to the same one with the same descriptor, after a fence
// of their registers and of all copies that arrived.
namespace emulator {
static float described(uint64_t b, bool transposed, unsigned k, unsigned n) {
    uint64_t stride = b >> 28 & 0x3fff0, row = transposed ? k : n, column = transposed ? n : k;
    uint64_t address = (b << 4 & 0x3fff0) + row / 8 * stride + row % 8 * 128 + column * 2;
    address ^= (address >> 7 & 7) << 4;  // the swizzle of 128 bytes
    unsigned short bits;
    if (b >> 62 != 1 || !shared(__start_cuda_shared + address, 2)) __builtin_trap();
    memcpy(&bits, __start_cuda_shared + address, 2);
    return widened_half(bits, 0);
}

static void compute(const Product& p) {
    unsigned t = current % 4;
    if (p.first) memcpy(p.c, p.kept, p.columns / 2 * sizeof(float));
    for (unsigned i = 0; i < p.columns / 2; i += i % 2 ? 3 : 1) {  // 0, 1, 4, 5, …: row g; two more: row g + 8
        unsigned column = i / 4 * 8 + 2 * t + i % 2;
        float *upper = p.c + i, *lower = upper + 2;
        if (!p.add) *upper = *lower = 0;
        for (unsigned k = 0; k < 16; k++) {
            float right = described(p.b, p.transposed, k, column);
            const unsigned* left = p.a[k % 8 / 2] + k / 8 * 2;
            *upper += widened_half(left[0], k % 2) * right, *lower += widened_half(left[1], k % 2) * right;
        }
    }
}

static void multiply(float* c, unsigned columns, const unsigned (&a)[4], uint64_t b, bool transposed, bool add) {
    Fibre& fibre = fibres[current];
    uint64_t words[3] = {a[0] | uint64_t(a[1]) << 32, a[2] | uint64_t(a[3]) << 32, b};
    memcpy(fibre.given, words, sizeof words);
    wait(FOR_GROUP, __LINE__);
    if (!fibre.fenced || fibre.products == MOST_PRODUCTS) __builtin_trap();
    for (unsigned i = 0; i < count; i++)
        if (fibres[i].unseen) __builtin_trap();
    if (fibres[current / 128 * 128].given[2] != b) __builtin_trap();
    Product& p = fibre.product[fibre.products++];
    p = {c, {}, true, transposed, add, columns};
    p.b = b, p.group = fibre.groups;
    for (unsigned i = 0; i < 4; i++) memcpy(p.a[i], fibres[current / 4 * 4 + i].given, 16);
    for (Product* q = fibre.product; q < &p; q++) p.first &= q->c != c;
    wait(FOR_GROUP, __LINE__);
    if (p.first) memcpy(p.kept, c, columns / 2 * sizeof(float));
    if (order % 2) compute(p), fibre.products--;
    else if (p.first) memset(c, 0xff, columns / 2 * sizeof(float));
}
}  // namespace emulator

static uint64_t shared_address(const void* x) { return (const char*)x - __start_cuda_shared; }
static void hold(float&) {}
static void hold(unsigned&) {}
static void show_copies() { emulator::fibres[emulator::current].unseen = false; }
static void fence_registers() { emulator::fibres[emulator::current].fenced = true; }

static void end_group() { emulator::fibres[emulator::current].groups++; }

template <int later> static void wait_for_groups() {
    emulator::Fibre& fibre = emulator::fibres[emulator::current];
    unsigned left = 0;
    for (unsigned i = 0; i < fibre.products; i++)
        if (fibre.product[i].group + later < fibre.groups) emulator::compute(fibre.product[i]);
        else fibre.product[left++] = fibre.product[i];
    fibre.products = left, fibre.fenced = false;
}

template <bool transposed, bool add, unsigned n>
static void multiply(float (&c)[n][4], const unsigned (&a)[4], uint64_t b) {
    emulator::multiply(c[0], n * 8, a, b, transposed, add);
}
