"""The first schema."""

from __future__ import annotations

from alembic import op

revision = "v0001"
down_revision = None

SCHEMA = """
CREATE TABLE meta (
    name VARCHAR NOT NULL,
    value VARCHAR NOT NULL,
    CONSTRAINT pk_meta PRIMARY KEY (name)
);
CREATE TABLE organization (
    id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    tier VARCHAR NOT NULL,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL,
    stripe_customer_id VARCHAR,
    stripe_subscription_id VARCHAR,
    CONSTRAINT pk_organization PRIMARY KEY (id)
);
CREATE TABLE warm_sandbox (
    sandbox_id VARCHAR NOT NULL,
    fingerprint VARCHAR NOT NULL,
    gateway_url VARCHAR,
    created_at DATETIME NOT NULL,
    CONSTRAINT pk_warm_sandbox PRIMARY KEY (sandbox_id)
);
CREATE TABLE api_key (
    id VARCHAR NOT NULL,
    organization_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    prefix VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    is_active BOOLEAN NOT NULL,
    is_organization_key BOOLEAN NOT NULL,
    created_at DATETIME NOT NULL,
    expires_at DATETIME,
    last_used_at DATETIME,
    CONSTRAINT pk_api_key PRIMARY KEY (id),
    CONSTRAINT uq_api_key_sha256 UNIQUE (sha256),
    CONSTRAINT fk_api_key_organization_id_organization
        FOREIGN KEY(organization_id) REFERENCES organization (id)
);
CREATE INDEX ix_api_key_organization_id ON api_key (organization_id);
CREATE TABLE instance (
    id VARCHAR NOT NULL,
    organization_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    model_provider VARCHAR NOT NULL,
    sandbox_id VARCHAR NOT NULL,
    sandbox_provider VARCHAR NOT NULL,
    openclaw_version VARCHAR NOT NULL,
    region VARCHAR,
    error_message VARCHAR,
    gateway_url VARCHAR,
    first_ready_at DATETIME,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL,
    egress VARCHAR,
    openclaw_config_ciphertext BLOB,
    origin_snapshot_id VARCHAR,
    CONSTRAINT pk_instance PRIMARY KEY (id),
    CONSTRAINT uq_instance_sandbox_id UNIQUE (sandbox_id),
    CONSTRAINT fk_instance_organization_id_organization
        FOREIGN KEY(organization_id) REFERENCES organization (id)
);
CREATE INDEX ix_instance_organization_id_status ON instance (organization_id, status);
CREATE INDEX ix_instance_status ON instance (status);
CREATE TABLE model_key (
    organization_id VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    ciphertext BLOB NOT NULL,
    CONSTRAINT pk_model_key PRIMARY KEY (organization_id, provider),
    CONSTRAINT fk_model_key_organization_id_organization
        FOREIGN KEY(organization_id) REFERENCES organization (id)
);
CREATE TABLE snapshot (
    id VARCHAR NOT NULL,
    organization_id VARCHAR NOT NULL,
    instance_id VARCHAR,
    name VARCHAR,
    model_provider VARCHAR NOT NULL,
    egress VARCHAR,
    is_kept BOOLEAN NOT NULL,
    is_whole BOOLEAN NOT NULL,
    size_bytes INTEGER NOT NULL,
    content_ciphertext BLOB NOT NULL,
    created_at DATETIME NOT NULL,
    CONSTRAINT pk_snapshot PRIMARY KEY (id),
    CONSTRAINT fk_snapshot_organization_id_organization
        FOREIGN KEY(organization_id) REFERENCES organization (id)
);
CREATE INDEX ix_snapshot_organization_id ON snapshot (organization_id);
CREATE TABLE conversation_history (
    instance_id VARCHAR NOT NULL,
    session_key VARCHAR NOT NULL,
    openclaw_session_id VARCHAR,
    items BLOB NOT NULL,
    CONSTRAINT pk_conversation_history PRIMARY KEY (instance_id, session_key),
    CONSTRAINT fk_conversation_history_instance_id_instance
        FOREIGN KEY(instance_id) REFERENCES instance (id)
);
CREATE TABLE dashboard_session (
    sha256 VARCHAR NOT NULL,
    key_id VARCHAR NOT NULL,
    expires_at DATETIME NOT NULL,
    CONSTRAINT pk_dashboard_session PRIMARY KEY (sha256),
    CONSTRAINT fk_dashboard_session_key_id_api_key FOREIGN KEY(key_id) REFERENCES api_key (id)
);
CREATE TABLE idempotent_answer (
    instance_id VARCHAR NOT NULL,
    session_key VARCHAR NOT NULL,
    key_sha256 VARCHAR NOT NULL,
    request_sha256 VARCHAR NOT NULL,
    media_type VARCHAR NOT NULL,
    body_ciphertext BLOB NOT NULL,
    created_at DATETIME NOT NULL,
    CONSTRAINT pk_idempotent_answer PRIMARY KEY (instance_id, session_key, key_sha256),
    CONSTRAINT fk_idempotent_answer_instance_id_instance
        FOREIGN KEY(instance_id) REFERENCES instance (id)
);
CREATE INDEX ix_idempotent_answer_created_at ON idempotent_answer (created_at);
CREATE INDEX ix_idempotent_answer_instance_id_created_at
    ON idempotent_answer (instance_id, created_at);
CREATE TABLE key_grant (
    key_id VARCHAR NOT NULL,
    instance_id VARCHAR NOT NULL,
    permissions JSON NOT NULL,
    CONSTRAINT pk_key_grant PRIMARY KEY (key_id, instance_id),
    CONSTRAINT fk_key_grant_key_id_api_key FOREIGN KEY(key_id) REFERENCES api_key (id),
    CONSTRAINT fk_key_grant_instance_id_instance FOREIGN KEY(instance_id) REFERENCES instance (id)
);
CREATE TABLE session (
    instance_id VARCHAR NOT NULL,
    session_key VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    created_at DATETIME NOT NULL,
    last_used_at DATETIME NOT NULL,
    CONSTRAINT pk_session PRIMARY KEY (instance_id, session_key),
    CONSTRAINT fk_session_instance_id_instance FOREIGN KEY(instance_id) REFERENCES instance (id)
);
CREATE TABLE usage (
    instance_id VARCHAR NOT NULL,
    day DATE NOT NULL,
    session_key VARCHAR NOT NULL,
    provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    is_billed BOOLEAN NOT NULL,
    calls INTEGER NOT NULL,
    unmetered_calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    long_cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    CONSTRAINT pk_usage PRIMARY KEY (instance_id, day, session_key, provider, model, is_billed),
    CONSTRAINT fk_usage_instance_id_instance FOREIGN KEY(instance_id) REFERENCES instance (id)
);
CREATE INDEX ix_usage_sums
    ON usage (instance_id, day, model, is_billed, calls, unmetered_calls, input_tokens,
        cached_tokens, cache_write_tokens, long_cache_write_tokens, output_tokens);
"""


def upgrade() -> None:
    """Makes all tables."""
    for statement in filter(str.strip, SCHEMA.split(";")):
        op.execute(statement)
