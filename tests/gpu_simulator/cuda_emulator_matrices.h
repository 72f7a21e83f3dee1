// The matrix instructions of matrices*.cuh, by their definition in the PTX ISA: lane 4 g + t of each.
static float widened_half(unsigned pair, int upper) {
    unsigned bits = upper ? pair & 0xffff0000 : pair << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// cp.async: between its issue and the thread's wait the copy may be made at any time. In odd orders it is made at once,
// in even ones at the wait, and until then the place holds NaN: whoever still reads there, or reads too early, sees it.
namespace emulator {
static bool shared(const void* place, unsigned bytes) {
    return place >= __start_cuda_shared && (char*)place + bytes <= __stop_cuda_shared;
}

static void copy_later(void* to, const void* from, bool there, unsigned bytes) {
    if (uintptr_t(to) % bytes || uintptr_t(from) % bytes || !shared(to, bytes)) __builtin_trap();
    Fibre& fibre = fibres[current];
    if (fibre.copies == MOST_COPIES) __builtin_trap();
    fibre.copy[fibre.copies++] = {to, there ? from : nullptr, bytes};
    fibre.copied = true;
    if (order % 2) finish_copies(); else memset(to, 0xff, bytes);
}
}  // namespace emulator

static void copy_later_16(void* to, const void* from, bool there) { emulator::copy_later(to, from, there, 16); }
static void copy_later_8(void* to, const void* from, bool there) { emulator::copy_later(to, from, there, 8); }
static void copy_later_4(void* to, const void* from, bool there) { emulator::copy_later(to, from, there, 4); }
static void wait_for_copies() {
    emulator::Fibre& fibre = emulator::fibres[emulator::current];
    emulator::finish_copies();
    fibre.unseen |= fibre.copied, fibre.copied = false;
}

static void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    using namespace emulator;
    unsigned warp = current / 32 * 32, g = current % 32 / 4, t = current % 4;
    unsigned words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    memcpy(fibres[current].given, words, sizeof words);
    wait(FOR_WARP, __LINE__);
    float result[4];
    for (int i = 0; i < 4; i++) {
        unsigned row = g + i / 2 * 8, column = 2 * t + i % 2;
        result[i] = c[i];
        for (int k = 0; k < 16; k++) {
            const unsigned* left = (unsigned*)fibres[warp + row % 8 * 4 + k % 8 / 2].given;
            const unsigned* right = (unsigned*)fibres[warp + column * 4 + k % 8 / 2].given;
            result[i] += widened_half(left[row / 8 + k / 8 * 2], k % 2) * widened_half(right[4 + k / 8], k % 2);
        }
    }
    wait(FOR_WARP, __LINE__);
    memcpy(c, result, sizeof result);
}

template <bool transposed> static void load_matrices(unsigned (&x)[4], const void* row) {
    using namespace emulator;
    unsigned warp = current / 32 * 32, g = current % 32 / 4, t = current % 4;
    if (uintptr_t(row) % 16 || !shared(row, 16)) __builtin_trap();
    memcpy(fibres[current].given, &row, 8);
    wait(FOR_WARP, __LINE__);
    for (int m = 0; m < 4; m++) {
        unsigned short pair[2];
        for (unsigned i = 0; i < 2; i++) {
            unsigned r = transposed ? 2 * t + i : g, column = transposed ? g : 2 * t + i;
            pair[i] = ((unsigned short*)fibres[warp + m * 8 + r].given[0])[column];
        }
        memcpy(&x[m], pair, 4);
    }
    wait(FOR_WARP, __LINE__);
}

static unsigned packed(float low, float high) {
    unsigned bits[2];
    memcpy(bits, &low, 4), memcpy(bits + 1, &high, 4);
    for (unsigned& b : bits) b = (b & 0x7fffffff) > 0x7f800000 ? 0x7fff : (b + 0x7fff + (b >> 16 & 1)) >> 16;
    return bits[0] | bits[1] << 16;
}

#if WGMMA
// wgmma: what it reads and writes is its own from the issue to the wait, and it may run at any time between. In odd
// orders it runs at once, in even ones at the wait, and until then C holds NaN. All four warps must come to the same
// one with the same descriptor, after a fence of their registers and of all copies that arrived.
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
    p.b = b;
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

static void wait_for_products() {
    emulator::Fibre& fibre = emulator::fibres[emulator::current];
    for (unsigned i = 0; i < fibre.products; i++) emulator::compute(fibre.product[i]);
    fibre.products = 0, fibre.fenced = false;
}

template <bool transposed, bool add, unsigned n>
static void multiply(float (&c)[n][4], const unsigned (&a)[4], uint64_t b) {
    emulator::multiply(c[0], n * 8, a, b, transposed, add);
}
#endif
