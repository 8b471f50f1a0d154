/* Versions, errors, data types, environments. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void versions(void)
{
    char text[32];
    CHECK(mezzo_version() == MEZZO_VERSION_MAJOR * 1000000u + MEZZO_VERSION_MINOR * 1000u + MEZZO_VERSION_PATCH);
    snprintf(text, sizeof text, "%d.%d.%d", MEZZO_VERSION_MAJOR, MEZZO_VERSION_MINOR, MEZZO_VERSION_PATCH);
    CHECK(strcmp(mezzo_version_string(), text) == 0);
    OK(MEZZO_CHECK_VERSION());
    REFUSED(mezzo_check_version(MEZZO_VERSION_MAJOR + 1, 0), MEZZO_ERROR_VERSION, text, "compile");
    REFUSED(mezzo_check_version(MEZZO_VERSION_MAJOR, MEZZO_VERSION_MINOR + 1), MEZZO_ERROR_VERSION, text);
}

static void errors(void)
{
    mezzo_error_t *error = mezzo_check_version(99, 1);
    CHECK(mezzo_error_code(error) == MEZZO_ERROR_VERSION);
    CHECK(mezzo_error_domain(error) == MEZZO_DOMAIN_MEZZO);
    CHECK(mezzo_error_native_code(error) == 0);
    CONTAINS(mezzo_error_message(error), "99.1");
    mezzo_error_free(error);

    CHECK(mezzo_error_code(NULL) == MEZZO_OK);
    CHECK(mezzo_error_domain(NULL) == MEZZO_DOMAIN_MEZZO);
    CHECK(mezzo_error_native_code(NULL) == 0);
    CHECK(strcmp(mezzo_error_message(NULL), "") == 0);
    mezzo_error_free(NULL);

    CHECK(strcmp(mezzo_error_code_name(MEZZO_OK), "MEZZO_OK") == 0);
    CHECK(strcmp(mezzo_error_code_name(MEZZO_ERROR_INTERNAL), "MEZZO_ERROR_INTERNAL") == 0);
    CHECK(strcmp(mezzo_error_code_name(-5), "MEZZO_ERROR_UNKNOWN") == 0);
    CHECK(strcmp(mezzo_error_domain_name(MEZZO_DOMAIN_IO), "io") == 0);
    CHECK(strcmp(mezzo_error_domain_name(77), "unknown") == 0);
}

static void dtypes(void)
{
    mezzo_dtype_t dtype = -7;
    CHECK(mezzo_dtype_size(MEZZO_DTYPE_FP16) == 2 && mezzo_dtype_bits(MEZZO_DTYPE_FP16) == 16);
    CHECK(mezzo_dtype_size(MEZZO_DTYPE_INT4) == 0 && mezzo_dtype_bits(MEZZO_DTYPE_INT4) == 4);
    CHECK(mezzo_dtype_size(MEZZO_DTYPE_STRING) == 0 && mezzo_dtype_size(12345) == 0 && mezzo_dtype_bits(-1) == 0);
    CHECK(strcmp(mezzo_dtype_name(MEZZO_DTYPE_BF16), "bf16") == 0);
    CHECK(strcmp(mezzo_dtype_name(MEZZO_DTYPE_NONE), "unknown") == 0);
    OK(mezzo_dtype_from_name("half", &dtype));
    CHECK(dtype == MEZZO_DTYPE_FP16);
    REFUSED(mezzo_dtype_from_name("quarter", &dtype), MEZZO_ERROR_NOT_FOUND, "'quarter'", "fp16");
    REFUSED(mezzo_dtype_from_name(NULL, &dtype), MEZZO_ERROR_INVALID_ARGUMENT, "'name'", "mezzo_dtype_from_name", "NULL");
    REFUSED(mezzo_dtype_from_name("half", NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'dtype'", "NULL");
    CHECK(dtype == MEZZO_DTYPE_FP16);
}

typedef struct log_lines {
    int lines, released;
    mezzo_log_level_t last;
    char text[64];
} log_lines;

static void on_log(void *user, mezzo_log_level_t level, const char *message)
{
    log_lines *log = user;
    log->lines++;
    log->last = level;
    snprintf(log->text, sizeof log->text, "%s", message);
}

static void on_log_release(void *user)
{
    ((log_lines *)user)->released++;
}

static void logs(void)
{
    log_lines first = {0}, second = {0};
    mezzo_env_options_t *options = mezzo_env_options_new();
    mezzo_env_t *env = UNTOUCHED;
    OK(mezzo_env_options_set_log(options, on_log, &first, on_log_release));
    OK(mezzo_env_options_set_log_level(options, MEZZO_LOG_INFO));
    OK(mezzo_env_new(options, &env));
    OK(mezzo_env_log(env, MEZZO_LOG_INFO, "gr\xc3\xbc\xc3\x9f"));
    OK(mezzo_env_log(env, MEZZO_LOG_DEBUG, "not wanted"));
    CHECK(first.lines == 1 && first.last == MEZZO_LOG_INFO && strcmp(first.text, "gr\xc3\xbc\xc3\x9f") == 0);

    /* Another callback: the environment keeps the first one until it is gone. */
    OK(mezzo_env_options_set_log(options, on_log, &second, on_log_release));
    CHECK(first.released == 0);
    mezzo_env_t *again = mezzo_env_retain(env);
    CHECK(again == env);
    mezzo_env_free(env);
    OK(mezzo_env_log(again, MEZZO_LOG_ERROR, "still there"));
    CHECK(first.lines == 2);
    mezzo_env_free(again);
    CHECK(first.released == 1 && second.released == 0);
    mezzo_env_options_free(options);
    CHECK(second.released == 1 && second.lines == 0);

    OK(mezzo_env_log(NULL, MEZZO_LOG_ERROR, "the default environment is silent"));
    REFUSED(mezzo_env_log(NULL, 9, "x"), MEZZO_ERROR_INVALID_ARGUMENT, "'level'", "9", "MEZZO_LOG_");
    REFUSED(mezzo_env_log(NULL, MEZZO_LOG_ERROR, "\xff"), MEZZO_ERROR_INVALID_ARGUMENT, "'message'", "UTF-8");
}

static void options_by_name(void)
{
    mezzo_env_options_t *options = mezzo_env_options_new();
    OK(mezzo_env_options_set(options, "threads", "2"));
    OK(mezzo_env_options_set(options, "log_level", "debug"));
    OK(mezzo_env_options_set(options, "cache_dir", "/nowhere"));
    OK(mezzo_env_options_set(options, "library_path", "/nowhere"));
    REFUSED(mezzo_env_options_set(options, "thread", "2"), MEZZO_ERROR_NOT_FOUND, "'thread'", "'threads'", "'log_level'");
    REFUSED(mezzo_env_options_set(options, "threads", "two"), MEZZO_ERROR_INVALID_ARGUMENT, "'threads'", "'two'");
    REFUSED(mezzo_env_options_set(options, "threads", "-1"), MEZZO_ERROR_INVALID_ARGUMENT, "'threads'", "'-1'");
    REFUSED(mezzo_env_options_set(options, NULL, "2"), MEZZO_ERROR_INVALID_ARGUMENT, "'key'", "NULL");
    REFUSED(mezzo_env_options_set_log_level(options, 0), MEZZO_ERROR_INVALID_ARGUMENT, "'level'", "0");
    OK(mezzo_env_options_set_threads(options, 3));
    OK(mezzo_env_options_set_cache_dir(options, "/tmp"));
    OK(mezzo_env_options_add_library_path(options, "/tmp"));
    REFUSED(mezzo_env_options_set_cache_dir(options, ""), MEZZO_ERROR_INVALID_ARGUMENT, "'path'", "empty");
    mezzo_env_t *env = UNTOUCHED;
    OK(mezzo_env_new(options, &env));
    mezzo_env_free(env);

    /* A handle of another kind, as foreign function interfaces pass them, is refused and not misread. */
    env = UNTOUCHED;
    REFUSED(mezzo_env_new((void *)mezzo_env_retain(NULL), NULL), MEZZO_ERROR_INVALID_ARGUMENT, "'env'");
    mezzo_cancel_t *cancel = mezzo_cancel_new();
    REFUSED(mezzo_env_new((const void *)cancel, &env), MEZZO_ERROR_INVALID_ARGUMENT, "'options'", "another kind");
    CHECK(env == UNTOUCHED);
    mezzo_env_options_free((void *)cancel); /* does nothing */
    mezzo_cancel_free(cancel);
    mezzo_env_options_free(options);
}

void test(void)
{
    versions();
    errors();
    dtypes();
    logs();
    options_by_name();
}
