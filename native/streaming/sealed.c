/*
 * Blocks of weights, sealed for memory outside of the enclave.
 *
 * A block is opened piece by piece: each piece is copied into the enclave first, and hashed and
 * decrypted there. OpenSSL reads ciphertext twice, once for each; a host that changed it in between
 * would otherwise decide what is decrypted after the hash has passed.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "streaming.h"

/* From OpenSSL's evp.h, stable from 1.1 on; its headers are not needed to build. */
#define EVP_CTRL_AEAD_GET_TAG 0x10
#define EVP_CTRL_AEAD_SET_TAG 0x11

#define PIECE_BYTES (16u << 10)
#define NONCE_BYTES 12

typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
typedef struct evp_cipher_st EVP_CIPHER;
typedef struct engine_st ENGINE;
typedef int init_function(EVP_CIPHER_CTX *, const EVP_CIPHER *, ENGINE *, const unsigned char *key,
                          const unsigned char *nonce);
typedef int update_function(EVP_CIPHER_CTX *, unsigned char *out, int *out_bytes,
                            const unsigned char *in, int in_bytes);
typedef int final_function(EVP_CIPHER_CTX *, unsigned char *out, int *out_bytes);

static struct {
    const EVP_CIPHER *(*aes_128_gcm)(void);
    EVP_CIPHER_CTX *(*ctx_new)(void);
    void (*ctx_free)(EVP_CIPHER_CTX *);
    int (*ctx_ctrl)(EVP_CIPHER_CTX *, int type, int argument, void *pointer);
    init_function *encrypt_init, *decrypt_init;
    update_function *encrypt_update, *decrypt_update;
    final_function *encrypt_final, *decrypt_final;
} crypto;

struct sealer {
    EVP_CIPHER_CTX *sealing, *opening;
    uint64_t next_nonce;
};

/* Associated data: where a block belongs. All numbers are of fixed size, so no two places share it. */
struct place {
    char label[16];
    uint32_t stage;
    uint32_t position;
    uint32_t bytes;
    uint32_t blocks;
};

static const char *why = "";

static int load_libcrypto(void)
{
    static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        why = "no libcrypto of OpenSSL 1.1 or 3 was found (Debian: libssl3)";
        return -1;
    }
    const struct {
        const char *name;
        void *slot;
    } wanted[] = {
        {"EVP_aes_128_gcm", &crypto.aes_128_gcm},       {"EVP_CIPHER_CTX_new", &crypto.ctx_new},
        {"EVP_CIPHER_CTX_free", &crypto.ctx_free},      {"EVP_CIPHER_CTX_ctrl", &crypto.ctx_ctrl},
        {"EVP_EncryptInit_ex", &crypto.encrypt_init},   {"EVP_DecryptInit_ex", &crypto.decrypt_init},
        {"EVP_EncryptUpdate", &crypto.encrypt_update},  {"EVP_DecryptUpdate", &crypto.decrypt_update},
        {"EVP_EncryptFinal_ex", &crypto.encrypt_final}, {"EVP_DecryptFinal_ex", &crypto.decrypt_final},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        void *symbol = dlsym(library, wanted[i].name);
        if (!symbol) {
            why = "the libcrypto that was found lacks a function of OpenSSL 1.1";
            return -1;
        }
        memcpy(wanted[i].slot, &symbol, sizeof symbol);
    }
    return 0;
}

const char *streaming_why(void)
{
    return why;
}

struct sealer *streaming_sealer(void)
{
    uint8_t key[16];
    struct sealer *sealer = calloc(1, sizeof *sealer);
    if (!sealer || load_libcrypto()) {
        free(sealer);
        return NULL;
    }
    sealer->sealing = crypto.ctx_new();
    sealer->opening = crypto.ctx_new();
    const int good = getrandom(key, sizeof key, 0) == sizeof key && sealer->sealing && sealer->opening &&
                     crypto.encrypt_init(sealer->sealing, crypto.aes_128_gcm(), NULL, key, NULL) &&
                     crypto.decrypt_init(sealer->opening, crypto.aes_128_gcm(), NULL, key, NULL);
    explicit_bzero(key, sizeof key);
    if (!good) {
        why = "libcrypto refused AES-128-GCM, or the system gave no random bytes";
        streaming_wipe(sealer);
        return NULL;
    }
    return sealer;
}

void streaming_wipe(struct sealer *sealer)
{
    if (!sealer)
        return;
    /* OpenSSL cleanses the key schedule when it frees a context. */
    crypto.ctx_free(sealer->sealing);
    crypto.ctx_free(sealer->opening);
    free(sealer);
}

static size_t blocks_of(size_t bytes)
{
    return bytes / STREAMING_BLOCK_BYTES + (bytes % STREAMING_BLOCK_BYTES != 0);
}

size_t streaming_sealed_bytes(size_t bytes)
{
    return bytes + blocks_of(bytes) * STREAMING_TAG_BYTES;
}

static void nonce_of(uint64_t number, uint8_t nonce[NONCE_BYTES])
{
    memset(nonce, 0, NONCE_BYTES);
    memcpy(nonce + 4, &number, sizeof number);
}

static struct place place_of(uint32_t stage, size_t position, size_t bytes, size_t of_stage)
{
    struct place place = {"sectum weights", stage, (uint32_t)position, (uint32_t)bytes,
                          (uint32_t)blocks_of(of_stage)};
    return place;
}

static size_t block_bytes(size_t position, size_t of_stage)
{
    const size_t left = of_stage - position * STREAMING_BLOCK_BYTES;
    return left < STREAMING_BLOCK_BYTES ? left : STREAMING_BLOCK_BYTES;
}

static int seal_block(struct sealer *sealer, const struct place *place, const uint8_t *plain, uint8_t *sealed)
{
    uint8_t nonce[NONCE_BYTES], tag[STREAMING_TAG_BYTES];
    int bytes;
    nonce_of(sealer->next_nonce++, nonce);
    if (!crypto.encrypt_init(sealer->sealing, NULL, NULL, NULL, nonce) ||
        !crypto.encrypt_update(sealer->sealing, NULL, &bytes, (const uint8_t *)place, sizeof *place) ||
        !crypto.encrypt_update(sealer->sealing, sealed, &bytes, plain, (int)place->bytes) ||
        !crypto.encrypt_final(sealer->sealing, tag, &bytes) ||
        !crypto.ctx_ctrl(sealer->sealing, EVP_CTRL_AEAD_GET_TAG, sizeof tag, tag))
        return 0;
    memcpy(sealed + place->bytes, tag, sizeof tag);
    return 1;
}

uint64_t streaming_seal(struct sealer *sealer, uint32_t stage, const uint8_t *plain, size_t bytes,
                        uint8_t *sealed)
{
    const uint64_t first = sealer->next_nonce;
    for (size_t i = 0; i < blocks_of(bytes); i++) {
        const struct place place = place_of(stage, i, block_bytes(i, bytes), bytes);
        if (!seal_block(sealer, &place, plain, sealed))
            return UINT64_MAX;
        plain += place.bytes;
        sealed += place.bytes + STREAMING_TAG_BYTES;
    }
    return first;
}

static int open_block(struct sealer *sealer, const struct place *place, uint64_t number,
                      const uint8_t *sealed, uint8_t *plain)
{
    uint8_t nonce[NONCE_BYTES], tag[STREAMING_TAG_BYTES], piece[PIECE_BYTES];
    int bytes;
    nonce_of(number, nonce);
    if (!crypto.decrypt_init(sealer->opening, NULL, NULL, NULL, nonce) ||
        !crypto.decrypt_update(sealer->opening, NULL, &bytes, (const uint8_t *)place, sizeof *place))
        return 0;
    for (size_t done = 0; done < place->bytes;) {
        const size_t left = place->bytes - done, next = left < PIECE_BYTES ? left : PIECE_BYTES;
        memcpy(piece, sealed + done, next);
        if (!crypto.decrypt_update(sealer->opening, plain + done, &bytes, piece, (int)next))
            return 0;
        done += next;
    }
    memcpy(tag, sealed + place->bytes, sizeof tag);
    return crypto.ctx_ctrl(sealer->opening, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) &&
           crypto.decrypt_final(sealer->opening, piece, &bytes) > 0;
}

long streaming_open(struct sealer *sealer, uint32_t stage, uint64_t first_nonce, const uint8_t *sealed,
                    size_t bytes, uint8_t *plain)
{
    for (size_t i = 0; i < blocks_of(bytes); i++) {
        const struct place place = place_of(stage, i, block_bytes(i, bytes), bytes);
        if (!open_block(sealer, &place, first_nonce + i, sealed, plain))
            return (long)i + 1;
        plain += place.bytes;
        sealed += place.bytes + STREAMING_TAG_BYTES;
    }
    return 0;
}
