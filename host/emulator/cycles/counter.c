/* The block counter of the virtual board: called by Unicorn at every basic block, it adds the block's cycles and stops
   at deadlines. counter.py compiles it at first use and has an equal twin in Python. Nothing of Unicorn's headers is
   needed. */
#include <stdint.h>
#include <stddef.h>

enum { STOP_NONE, STOP_DEADLINE, STOP_MISS, STOP_MASK, STOP_SUSPECT, STOP_PRECONDITION };
enum { ALWAYS_ALIGNED, TRAPPED_ALIGNED, TRAPPED_DIVISION, FLOATING_POINT };
enum { ATTENTION_FLOATS = 1 };
enum { REG_BASEPRI = 0, REG_FAULTMASK = 1, REG_PRIMASK = 2 };

typedef struct {
    uint32_t address, size;
    uint32_t cached, uncached;             /* cycles when the block falls through */
    uint32_t taken_cached, taken_uncached; /* added when its conditional branch is taken */
    uint32_t conditional, instructions;
    uint32_t first_precondition, preconditions; /* what to look at before the block runs */
    uint32_t attention, unused;                 /* it does not simply run while the state's attention shares a bit */
    uint64_t executed, taken;
} block_record;

struct counter_state;

/* preconditions.py says what it means: the sum of factor times register, and offset, must have no bit of mask; a
 * division: must not be 0. */
typedef struct {
    struct counter_state *state;
    uint32_t kind, offset, mask, unused;
    int32_t registers[3];
    uint32_t factors[3];
} precondition;

typedef struct counter_state {
    uint64_t active;   /* cycles the core was awake, by the cache setting in force */
    uint64_t deadline; /* stop before the first block that starts at or after this */
    uint64_t cached, uncached, instructions;
    uint64_t last;      /* index + 1 of the block in execution, 0 none */
    uint64_t access_pc; /* the memory instruction marked last; 0 none since the block began */
    uint32_t cache_on, poll_masks, stop_reason, miss_address, miss_size, masks[3];
    int32_t mask_registers[3];
    uint32_t table_bits;
    uint64_t engine;
    int (*emu_stop)(void *);
    int (*reg_read)(void *, int, void *);
    block_record *blocks;
    uint32_t *table;           /* open addressing on the block's address: index + 1 */
    uint32_t traps;            /* CCR: which of the preconditions with a trap bit count */
    uint32_t attention;        /* what is watched for now; counter.py has the bits */
    uint32_t stepping, unused; /* one instruction is run by itself, its preconditions have been looked at */
    precondition *preconditions;
    void (*on_float)(uint64_t address);
} counter_state;

static uint32_t slot_of(const counter_state *s, uint32_t address, uint32_t size) {
    uint32_t mask = (1u << s->table_bits) - 1u;
    uint32_t slot = ((address >> 1) * 2654435761u >> 4) & mask;
    while (s->table[slot]) {
        const block_record *b = &s->blocks[s->table[slot] - 1];
        if (b->address == address && b->size == size) break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

void counter_insert(counter_state *s, uint32_t index) {
    s->table[slot_of(s, s->blocks[index].address, s->blocks[index].size)] = index + 1;
}

/* Charges the branch of the block left last, now that where it went is known. */
void counter_settle(counter_state *s, uint32_t address) {
    if (s->last) {
        block_record *b = &s->blocks[s->last - 1];
        if (b->conditional && address != b->address + b->size) {
            b->taken++;
            s->cached += b->taken_cached;
            s->uncached += b->taken_uncached;
            s->active += s->cache_on ? b->taken_cached : b->taken_uncached;
        }
        s->last = 0;
    }
    s->access_pc = 0;
}

static void stop(counter_state *s, uint32_t reason) {
    s->stop_reason = reason;
    s->emu_stop((void *)(uintptr_t)s->engine);
}

static int masks_changed(counter_state *s) {
    for (int i = 0; i < 3; i++) {
        uint32_t value = 0;
        s->reg_read((void *)(uintptr_t)s->engine, s->mask_registers[i], &value);
        if (value != s->masks[i]) return 1;
    }
    return 0;
}

static uint32_t read_register(const counter_state *s, int32_t number) {
    uint32_t value = 0;
    s->reg_read((void *)(uintptr_t)s->engine, number, &value);
    return value;
}

static int is_broken(const counter_state *s, const precondition *g) {
    if (g->kind == TRAPPED_ALIGNED && !(s->traps & 8)) return 0;
    if (g->kind == TRAPPED_DIVISION && !(s->traps & 16)) return 0;
    uint32_t sum = g->offset;
    for (int i = 0; i < 3 && g->factors[i]; i++) sum += g->factors[i] * read_register(s, g->registers[i]);
    return g->kind == TRAPPED_DIVISION ? !sum : (sum & g->mask) != 0;
}

/* True when the block must not simply run. */
static int is_suspect(const counter_state *s, const block_record *b) {
    if (b->attention & s->attention) return 1;
    for (uint32_t i = 0; i < b->preconditions; i++)
        if (is_broken(s, &s->preconditions[b->first_precondition + i])) return 1;
    return 0;
}

/* In front of a watched instruction outside IT blocks: stops when it must not run. */
void counter_precondition(void *engine, uint64_t address, uint32_t size, void *user) {
    const precondition *g = user;
    counter_state *s = g->state;
    (void)engine;
    (void)size;
    if (s->stop_reason || s->stepping) return;
    if (g->kind == FLOATING_POINT) {
        if (s->attention & ATTENTION_FLOATS) s->on_float(address);
    } else if (is_broken(s, g)) {
        s->miss_address = (uint32_t)address;
        stop(s, STOP_PRECONDITION);
    }
}

void counter_block(void *engine, uint64_t address, uint32_t size, void *user) {
    counter_state *s = user;
    (void)engine;
    if (s->stop_reason) { /* already stopping: this block runs again after the restart */
        s->emu_stop((void *)(uintptr_t)s->engine);
        return;
    }
    counter_settle(s, (uint32_t)address);
    if (s->active >= s->deadline) {
        stop(s, STOP_DEADLINE);
        return;
    }
    if (s->poll_masks && masks_changed(s)) {
        stop(s, STOP_MASK);
        return;
    }
    uint32_t found = s->table[slot_of(s, (uint32_t)address, size)];
    if (!found) {
        s->miss_address = (uint32_t)address;
        s->miss_size = size;
        stop(s, STOP_MISS);
        return;
    }
    block_record *b = &s->blocks[found - 1];
    if ((b->preconditions || b->attention) && !s->stepping && is_suspect(s, b)) {
        s->miss_address = found - 1;
        stop(s, STOP_SUSPECT);
        return;
    }
    b->executed++;
    s->cached += b->cached;
    s->uncached += b->uncached;
    s->active += s->cache_on ? b->cached : b->uncached;
    s->instructions += b->instructions;
    s->last = found;
}

typedef struct {
    const uint8_t *flags; /* one byte a register word: 0 ask Python, 1 an event that is clear, 2 one that is raised */
    uint64_t (*slow_read)(void *, uint64_t, unsigned, void *);
} event_reads;

/* A program that polls an event gets its answer here; every other register is Python's. */
uint64_t events_read(void *engine, uint64_t offset, unsigned size, void *user) {
    const event_reads *e = user;
    uint8_t flag = e->flags[offset >> 2];
    if (flag && size == 4) return flag - 1u;
    return e->slow_read(engine, offset, size, NULL);
}

/* Placed on the memory instructions of blocks that were seen to touch a peripheral, so that time is read at the
 * instruction. */
void counter_access(void *engine, uint64_t address, uint32_t size, void *user) {
    (void)engine;
    (void)size;
    ((counter_state *)user)->access_pc = address;
}

/* counter.py repeats these structs for ctypes and compares their sizes with its own when it loads this file. */
const uint32_t counter_sizes[] = {sizeof(block_record), sizeof(precondition), sizeof(counter_state),
                                  sizeof(event_reads)};
