#include <mezzo/mezzo.h>

#include <stdio.h>

int main(void)
{
    mezzo_error_t *error = MEZZO_CHECK_VERSION();
    if (error) {
        fprintf(stderr, "%s\n", mezzo_error_message(error));
        mezzo_error_free(error);
        return 1;
    }
    puts(mezzo_version_string());
    return 0;
}
