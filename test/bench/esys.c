/* The same TPM operations through tpm2-tools' own library (ESYS): esys TCTI COUNT prints "operation p50_us p99_us" per line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_tctildr.h>

static void check(TSS2_RC rc, const char *what) {
  if (rc == TSS2_RC_SUCCESS) return;
  fprintf(stderr, "%s: 0x%x\n", what, rc);
  exit(1);
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static const TPML_PCR_SELECTION PCRS = {.count = 1, .pcrSelections = {{.hash = TPM2_ALG_SHA256, .sizeofSelect = 3, .pcrSelect = {0xff, 0x44, 0}}}};

static void get_random(ESYS_CONTEXT *esys, ESYS_TR ak) {
  (void)ak;
  TPM2B_DIGEST *bytes = NULL;
  check(Esys_GetRandom(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, 32, &bytes), "GetRandom");
  Esys_Free(bytes);
}

static void pcr_read(ESYS_CONTEXT *esys, ESYS_TR ak) {
  (void)ak;
  UINT32 counter;
  TPML_PCR_SELECTION *selected = NULL;
  TPML_DIGEST *values = NULL;
  TPML_PCR_SELECTION first = {.count = 1, .pcrSelections = {{.hash = TPM2_ALG_SHA256, .sizeofSelect = 3, .pcrSelect = {0xff, 0, 0}}}};
  check(Esys_PCR_Read(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &first, &counter, &selected, &values), "PCR_Read");
  Esys_Free(selected);
  Esys_Free(values);
}

static void pcr_extend(ESYS_CONTEXT *esys, ESYS_TR ak) {
  (void)ak;
  TPML_DIGEST_VALUES digests = {.count = 1, .digests = {{.hashAlg = TPM2_ALG_SHA256}}};
  check(Esys_PCR_Extend(esys, ESYS_TR_PCR0 + 14, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &digests), "PCR_Extend");
}

static void quote(ESYS_CONTEXT *esys, ESYS_TR ak) {
  TPM2B_DATA extra = {.size = 32};
  TPMT_SIG_SCHEME scheme = {.scheme = TPM2_ALG_NULL};
  TPM2B_ATTEST *attest = NULL;
  TPMT_SIGNATURE *signature = NULL;
  check(Esys_Quote(esys, ak, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &extra, &scheme, &PCRS, &attest, &signature), "Quote");
  Esys_Free(attest);
  Esys_Free(signature);
}

static ESYS_TR create_ak(ESYS_CONTEXT *esys) {
  TPM2B_PUBLIC template = {.publicArea = {
    .type = TPM2_ALG_ECC, .nameAlg = TPM2_ALG_SHA256,
    .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SIGN_ENCRYPT,
    .parameters.eccDetail = {.symmetric.algorithm = TPM2_ALG_NULL, .scheme = {.scheme = TPM2_ALG_ECDSA, .details.ecdsa.hashAlg = TPM2_ALG_SHA256}, .curveID = TPM2_ECC_NIST_P256, .kdf.scheme = TPM2_ALG_NULL}}};
  TPM2B_SENSITIVE_CREATE sensitive = {0};
  TPM2B_DATA outside = {0};
  TPML_PCR_SELECTION none = {0};
  ESYS_TR ak;
  check(Esys_CreatePrimary(esys, ESYS_TR_RH_ENDORSEMENT, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &sensitive, &template, &outside, &none, &ak, NULL, NULL, NULL, NULL), "CreatePrimary");
  return ak;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const int count = atoi(argv[2]);
  double *micros = calloc(count, sizeof *micros);
  TSS2_TCTI_CONTEXT *tcti = NULL;
  ESYS_CONTEXT *esys = NULL;
  check(Tss2_TctiLdr_Initialize(argv[1], &tcti), "TCTI");
  check(Esys_Initialize(&esys, tcti, NULL), "Initialize");
  ESYS_TR ak = create_ak(esys);
  static const struct { const char *name; void (*run)(ESYS_CONTEXT *, ESYS_TR); } OPERATIONS[] = {{"getRandom", get_random}, {"pcrRead", pcr_read}, {"pcrExtend", pcr_extend}, {"quote", quote}};
  for (size_t op = 0; op < sizeof OPERATIONS / sizeof *OPERATIONS; op++) {
    for (int i = 0; i < count; i++) {
      double from = now_us();
      OPERATIONS[op].run(esys, ak);
      micros[i] = now_us() - from;
    }
    qsort(micros, count, sizeof *micros, ascending);
    printf("%s %.1f %.1f\n", OPERATIONS[op].name, micros[count / 2], micros[count * 99 / 100]);
  }
  check(Esys_FlushContext(esys, ak), "FlushContext");
  Esys_Finalize(&esys);
  Tss2_TctiLdr_Finalize(&tcti);
  free(micros);
  return 0;
}
