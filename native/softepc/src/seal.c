/*
 * Sealing of evicted pages: AES-128-GCM under a key that never leaves the process.
 *
 * Nonce: page number (4 bytes) and a counter of all evictions (8 bytes), which never repeats.
 * Version and tag stay in trusted memory, so an older copy of the same page does not open either.
 *
 * seal_page and seal_open run in a signal handler, under the lock. The start makes both contexts
 * and sets their key; setting a new nonce on an existing context allocates nothing in OpenSSL 1.1
 * and 3 (tests/softepc checks this).
 */
#include "seal.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/random.h>

#include "layout.h"
#include "message.h"

/* From OpenSSL's evp.h and crypto.h, stable from 1.1 on; its headers are not needed to build. */
#define EVP_CTRL_AEAD_SET_IVLEN 0x9
#define EVP_CTRL_AEAD_GET_TAG 0x10
#define EVP_CTRL_AEAD_SET_TAG 0x11
#define OPENSSL_INIT_NO_ATEXIT UINT64_C(0x00080000)

typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
typedef struct evp_cipher_st EVP_CIPHER;
typedef struct engine_st ENGINE;

typedef int init_function(EVP_CIPHER_CTX *, const EVP_CIPHER *, ENGINE *, const unsigned char *key,
                          const unsigned char *nonce);
typedef int update_function(EVP_CIPHER_CTX *, unsigned char *out, int *out_bytes,
                            const unsigned char *in, int in_bytes);
typedef int final_function(EVP_CIPHER_CTX *, unsigned char *out, int *out_bytes);

static struct {
    int (*init_crypto)(uint64_t options, const void *settings);
    const EVP_CIPHER *(*aes_128_gcm)(void);
    EVP_CIPHER_CTX *(*ctx_new)(void);
    void (*ctx_free)(EVP_CIPHER_CTX *);
    int (*ctx_ctrl)(EVP_CIPHER_CTX *, int type, int argument, void *pointer);
    init_function *encrypt_init, *decrypt_init;
    update_function *encrypt_update, *decrypt_update;
    final_function *encrypt_final, *decrypt_final;
} crypto;

static EVP_CIPHER_CTX *sealing, *opening;
static uint64_t last_version;

struct nonce {
    uint32_t page;
    uint64_t version;
} __attribute__((packed));

static void load_libcrypto(void)
{
    static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "no libcrypto.so.3, libcrypto.so.1.1 or libcrypto.so was found (%s); evicted pages are "
            "sealed with it: install OpenSSL 1.1 or 3 (Debian: libssl3), or name its folder in "
            "LD_LIBRARY_PATH",
            dlerror());

    const struct {
        const char *name;
        void *slot;
    } wanted[] = {
        {"OPENSSL_init_crypto", &crypto.init_crypto},
        {"EVP_aes_128_gcm", &crypto.aes_128_gcm},
        {"EVP_CIPHER_CTX_new", &crypto.ctx_new},
        {"EVP_CIPHER_CTX_free", &crypto.ctx_free},
        {"EVP_CIPHER_CTX_ctrl", &crypto.ctx_ctrl},
        {"EVP_EncryptInit_ex", &crypto.encrypt_init},
        {"EVP_DecryptInit_ex", &crypto.decrypt_init},
        {"EVP_EncryptUpdate", &crypto.encrypt_update},
        {"EVP_DecryptUpdate", &crypto.decrypt_update},
        {"EVP_EncryptFinal_ex", &crypto.encrypt_final},
        {"EVP_DecryptFinal_ex", &crypto.decrypt_final},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        void *symbol = dlsym(library, wanted[i].name);
        if (!symbol)
            die(SOFTEPC_EXIT_UNSUPPORTED,
                "the libcrypto that was found has no %s: install OpenSSL 1.1 or 3", wanted[i].name);
        memcpy(wanted[i].slot, &symbol, sizeof symbol);
    }
}

static EVP_CIPHER_CTX *keyed_context(init_function *init, const uint8_t *key)
{
    EVP_CIPHER_CTX *context = crypto.ctx_new();
    if (!context || !init(context, crypto.aes_128_gcm(), NULL, NULL, NULL) ||
        !crypto.ctx_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, sizeof(struct nonce), NULL) ||
        !init(context, NULL, NULL, key, NULL))
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "libcrypto refused AES-128-GCM; evicted pages are sealed with it: check OPENSSL_CONF "
            "and the providers it loads");
    return context;
}

void seal_start(void)
{
    load_libcrypto();
    /* Pages fault until the process ends: OpenSSL must not clean up in an exit handler. */
    crypto.init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);

    uint8_t key[16];
    if (getrandom(key, sizeof key, 0) != sizeof key)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "getrandom gave no key for the sealing: if a sandbox forbids this system call, allow "
            "it there");
    sealing = keyed_context(crypto.encrypt_init, key);
    opening = keyed_context(crypto.decrypt_init, key);
    explicit_bzero(key, sizeof key);
}

void seal_page(uint32_t page, const void *plain, void *cipher, struct seal_record *record)
{
    struct nonce nonce = {page, ++last_version};
    int bytes;
    if (!crypto.encrypt_init(sealing, NULL, NULL, NULL, (const uint8_t *)&nonce) ||
        !crypto.encrypt_update(sealing, NULL, &bytes, (const uint8_t *)&page, sizeof page) ||
        !crypto.encrypt_update(sealing, cipher, &bytes, plain, PAGE_BYTES) ||
        !crypto.encrypt_final(sealing, (uint8_t *)cipher + bytes, &bytes) ||
        !crypto.ctx_ctrl(sealing, EVP_CTRL_AEAD_GET_TAG, sizeof record->tag, record->tag))
        die(SOFTEPC_EXIT_UNSUPPORTED, "libcrypto failed to seal page %u: the page cannot leave the "
                                      "enclave, so the process ends; check the libcrypto in use",
            page);
    record->version = nonce.version;
}

bool seal_open(uint32_t page, const void *cipher, void *plain, const struct seal_record *record)
{
    struct nonce nonce = {page, record->version};
    uint8_t tag[sizeof record->tag];
    int bytes;
    memcpy(tag, record->tag, sizeof tag);
    return crypto.decrypt_init(opening, NULL, NULL, NULL, (const uint8_t *)&nonce) &&
           crypto.decrypt_update(opening, NULL, &bytes, (const uint8_t *)&page, sizeof page) &&
           crypto.decrypt_update(opening, plain, &bytes, cipher, PAGE_BYTES) &&
           crypto.ctx_ctrl(opening, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) &&
           crypto.decrypt_final(opening, (uint8_t *)plain + bytes, &bytes);
}

void seal_wipe(void)
{
    /* OpenSSL cleanses the key schedule when it frees a context. */
    crypto.ctx_free(sealing);
    crypto.ctx_free(opening);
    sealing = opening = NULL;
}
