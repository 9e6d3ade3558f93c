/* datetime.c - dates as text: written one way, read in all the ways that clients write them. */
#include "daemon/value/value.h"

#define DAY 86400

/* What four digits of a year can say. */
#define EARLIEST G_GINT64_CONSTANT(-62167219200)
#define LATEST   G_GINT64_CONSTANT(253402300799)

/* Days since 1970-01-01 in the proleptic Gregorian calendar. Years begin in March here: the leap day comes last. */
static gint64 days_from_civil(gint64 year, guint month, guint day)
{
    gint64 y = month <= 2 ? year - 1 : year;
    gint64 era = (y >= 0 ? y : y - 399) / 400;
    guint year_of_era = (guint) (y - era * 400);
    guint day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    guint day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void civil_from_days(gint64 days, gint64 *year, guint *month, guint *day)
{
    days += 719468;
    gint64 era = (days >= 0 ? days : days - 146096) / 146097;
    guint day_of_era = (guint) (days - era * 146097);
    guint year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    guint day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    guint shifted = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *month = shifted < 10 ? shifted + 3 : shifted - 9;
    *year = year_of_era + era * 400 + (*month <= 2);
}

static char *put_digits(char *p, guint number, guint width)
{
    for (guint i = width; i > 0; i--, number /= 10)
        p[i - 1] = '0' + number % 10;
    return p + width;
}

void datetime_format(gint64 epoch_seconds, char text[DATETIME_TEXT_SIZE])
{
    gint64 t = CLAMP(epoch_seconds, EARLIEST, LATEST);
    gint64 days = t / DAY, year;
    guint second = (guint) ((t % DAY + DAY) % DAY), month, day;
    if (t % DAY < 0)
        days--;
    civil_from_days(days, &year, &month, &day);
    char *p = put_digits(text, (guint) year, 4);
    p = put_digits(p, month, 2);
    p = put_digits(p, day, 2);
    *p++ = 'T';
    p = put_digits(p, second / 3600, 2);
    *p++ = ':';
    p = put_digits(p, second / 60 % 60, 2);
    *p++ = ':';
    p = put_digits(p, second % 60, 2);
    *p++ = 'Z';
    *p = '\0';
}

/* Reads exactly width digits. */
static gboolean take_digits(const char **p, guint width, guint *number)
{
    *number = 0;
    for (guint i = 0; i < width; i++) {
        if (!g_ascii_isdigit((*p)[i]))
            return FALSE;
        *number = *number * 10 + (guint) ((*p)[i] - '0');
    }
    *p += width;
    return TRUE;
}

static gboolean take(const char **p, char c)
{
    if (**p != c)
        return FALSE;
    (*p)++;
    return TRUE;
}

static void skip_fraction(const char **p)
{
    if ((**p == '.' || **p == ',') && g_ascii_isdigit((*p)[1])) {
        for ((*p)++; g_ascii_isdigit(**p); (*p)++)
            ;
    }
}

/* Seconds since the epoch, perhaps with a fraction and a sign, and nothing else: eight digits are not a date. */
static gboolean parse_epoch(const char *text, gint64 *epoch_seconds)
{
    char *end;
    if (!g_ascii_isdigit(text[text[0] == '-']))
        return FALSE;
    gint64 seconds = g_ascii_strtoll(text, &end, 10);
    const char *p = end;
    skip_fraction(&p);
    take(&p, '.');
    if (*p != '\0')
        return FALSE;
    *epoch_seconds = CLAMP(seconds, EARLIEST, LATEST);
    return TRUE;
}

static gboolean take_date(const char **p, gint64 *days)
{
    static const guint8 month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    guint year, month, day;
    if (!take_digits(p, 4, &year))
        return FALSE;
    gboolean dashes = take(p, '-');
    if (!take_digits(p, 2, &month) || (dashes && !take(p, '-')) || !take_digits(p, 2, &day))
        return FALSE;
    if (month < 1 || month > 12 || day < 1 || day > month_days[month - 1])
        return FALSE;
    gboolean leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (month == 2 && day == 29 && !leap)
        return FALSE;
    *days = days_from_civil(year, month, day);
    return TRUE;
}

/* hh, mm and ss with or without colons; the seconds may be left out. 60 is a leap second. */
static gboolean take_time(const char **p, guint *seconds)
{
    guint hour, minute, second = 0;
    if (!take_digits(p, 2, &hour))
        return FALSE;
    gboolean colons = take(p, ':');
    if (!take_digits(p, 2, &minute))
        return FALSE;
    if (colons ? take(p, ':') : g_ascii_isdigit(**p)) {
        if (!take_digits(p, 2, &second))
            return FALSE;
        skip_fraction(p);
    }
    if (hour > 23 || minute > 59 || second > 60)
        return FALSE;
    *seconds = hour * 3600 + minute * 60 + second;
    return TRUE;
}

/* Z, an offset, or nothing: a time without a zone is UTC. */
static gboolean take_zone(const char **p, gint64 *offset)
{
    guint hours, minutes = 0;
    *offset = 0;
    if (take(p, 'Z') || take(p, 'z') || **p == '\0')
        return TRUE;
    gboolean west = **p == '-';
    if (!take(p, '+') && !take(p, '-'))
        return FALSE;
    if (!take_digits(p, 2, &hours))
        return FALSE;
    if (take(p, ':') || g_ascii_isdigit(**p)) {
        if (!take_digits(p, 2, &minutes))
            return FALSE;
    }
    if (hours > 23 || minutes > 59)
        return FALSE;
    *offset = (gint64) (hours * 3600 + minutes * 60) * (west ? -1 : 1);
    return TRUE;
}

gboolean datetime_parse(const char *text, gint64 *epoch_seconds)
{
    gint64 days, offset = 0;
    guint seconds = 0;
    const char *p = text;
    if (text == NULL)
        return FALSE;
    if (parse_epoch(text, epoch_seconds))
        return TRUE;
    if (!take_date(&p, &days))
        return FALSE;
    if (*p != '\0') {
        if (!take(&p, 'T') && !take(&p, 't') && !take(&p, ' '))
            return FALSE;
        if (!take_time(&p, &seconds) || !take_zone(&p, &offset) || *p != '\0')
            return FALSE;
    }
    *epoch_seconds = CLAMP(days * DAY + seconds - offset, EARLIEST, LATEST);
    return TRUE;
}
