"""The functions that statements may call: well known, reading nothing but their arguments.

Whatever is not here is refused, whether it sleeps, reads files, runs SQL that is given as text
(`ts_stat`, `query_to_xml`), changes settings or speaks to other servers.
"""

from __future__ import annotations

from collections.abc import Mapping

_COMMON = """
    abs avg cast ceil ceiling char coalesce concat concat_ws count cume_dist current_date
    current_time current_timestamp date degrees dense_rank exp first_value floor format
    greatest iif ifnull lag last_value lead least left length ln log log10 log2 lower ltrim max
    md5 min mod nth_value ntile nullif octet_length percent_rank pi pow power radians random rank
    replace right round row_number rtrim sign sqrt stddev string_agg substr substring sum time trim
    trunc upper variance acos acosh asin asinh atan atan2 atanh cos cosh sin sinh tan tanh
"""

_SQLITE = """
    -> ->> datetime glob group_concat hex instr
    json json_array json_array_length json_each json_error_position json_extract json_group_array
    json_group_object json_insert json_object json_patch json_pretty json_quote json_remove
    json_replace json_set json_tree json_type json_valid
    julianday like likelihood likely match nullif printf quote regexp sqlite_version strftime
    timediff total typeof unhex unicode unixepoch unlikely
    bm25 highlight snippet
"""

_POSTGRESQL = """
    age any_value array_agg array_append array_cat array_dims array_length array_lower array_ndims
    array_position array_positions array_prepend array_remove array_replace array_to_json
    array_to_string array_upper cardinality unnest trim_array
    ascii bit_and bit_count bit_length bit_or bit_xor bool_and bool_or btrim cbrt char_length
    character_length chr clock_timestamp convert_from convert_to corr covar_pop covar_samp
    current_catalog current_database current_role current_schema current_user
    date_bin date_part date_trunc decode div encode erf every extract factorial gcd
    generate_series generate_subscripts get_bit get_byte grouping initcap isfinite
    justify_days justify_hours justify_interval lcm localtime localtimestamp lpad
    make_date make_interval make_time make_timestamp make_timestamptz min_scale mode normalize now
    num_nonnulls num_nulls numnode overlay parse_ident percentile_cont percentile_disc
    pg_typeof position quote_ident quote_literal quote_nullable
    regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace
    regexp_split_to_array regexp_split_to_table regexp_substr
    regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
    repeat reverse rpad scale session_user sha224 sha256 sha384 sha512 split_part starts_with
    statement_timestamp stddev_pop stddev_samp string_to_array string_to_table strpos timeofday
    timezone to_ascii to_char to_date to_hex to_number to_timestamp transaction_timestamp translate
    trim_scale unaccent user var_pop var_samp version width_bucket
    json_agg json_array json_array_elements json_array_elements_text json_array_length
    json_arrayagg json_build_array json_build_object json_each json_each_text json_exists
    json_extract_path json_extract_path_text json_object json_object_agg json_object_keys
    json_objectagg json_query json_scalar json_strip_nulls json_to_record json_to_recordset
    json_typeof json_value row_to_json to_json to_jsonb
    jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array
    jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text
    jsonb_insert jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists
    jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_pretty
    jsonb_set jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof
    isempty lower_inc lower_inf range_merge upper_inc upper_inf
    daterange int4range int8range numrange tsrange tstzrange
    abbrev broadcast family host hostmask masklen netmask network text
    similarity strict_word_similarity word_similarity levenshtein soundex metaphone dmetaphone
    phraseto_tsquery plainto_tsquery setweight to_tsquery to_tsvector ts_headline ts_rank
    ts_rank_cd websearch_to_tsquery
"""

FUNCTIONS: Mapping[str, frozenset[str]] = {
    "sqlite": frozenset(f"{_COMMON} {_SQLITE}".split()),
    "postgresql": frozenset(f"{_COMMON} {_POSTGRESQL}".split()),
}
"""By the dialect, in lower case."""

_SYNTAX = """
    all and any as asc between bernoulli both by case check collate cross cube desc distinct else
    end escape except exists fetch filter first for from full group having ilike in inner intersect
    interval is isnull join lateral leading like limit materialized natural next not notnull
    nulls of offset on only operator or order ordinality outer over partition range recursive
    repeatable rollup row rows select sets similar some symmetric system tablesample then ties to
    trailing union using values when where window with within zone array cast glob match regexp
    groups unbounded preceding following exclude
    bigint binary bit blob bool boolean bpchar character datetime2 dec decimal double float float4
    float8 int int2 int4 int8 integer json jsonb nchar nvarchar numeric precision real smallint
    text time timestamp timestamptz timetz uuid varbit varchar varying
"""
SYNTAX = frozenset(_SYNTAX.split())
"""Words that stand before a bracket and call nothing: of the language, or types."""
