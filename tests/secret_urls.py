"""URLs that are not to be shown, and ones that are: for all who take a URL."""

SECRET = "wJalr/XUtnFEMI/K7MDENG"

SECRET_URLS = (
    f"s3://AKIAX:{SECRET}@bucket/p",
    f"S3://AKIAX:{SECRET}@bucket",
    f"s3://:{SECRET}@bucket/p",
    f"s3://AKIAX:{SECRET}/@bucket/a/b@c",
    f"s3://{SECRET.partition('/')[0]}@bucket/p",
    f"gs://a:{SECRET}@bucket",
    f"sftp://ada:{SECRET}@host/p",
    f"https://ada:{SECRET}@host/p",
)

PLAIN_URLS = (
    "s3://bucket/p",
    "s3://bucket/a@b/p",
    "s3://bucket/a:b/p",
    "abfs://container@account/p",
    "sftp://ada@host/p",
    "sftp://host:22/p",
    "file:///a:b@c",
    "memory://a:b@c",
    "/a:b@c",
    "a:b@c",
)
