internal import ArgumentParsing

/// The tree of commands.
enum Root {
    static let command: Command = Command(
        "martlet", "Webhook delivery on Kafka: no database, no Redis, nothing lost.",
        details:
            "Services publish events to Kafka; workers deliver them as signed HTTP requests, with retries, circuit breakers and rate limits.",
        examples: [
            ("everything in one process, nothing to set up", "martlet dev"),
            ("the topics, an endpoint, a worker", "martlet topics create -b localhost:9092"),
            ("help for a command", "martlet endpoint create --help"),
        ],
        children: [
            DevCommand.command, WorkerCommand.command, PublishCommand.command, EndpointCommands.command, ApplyCommand.command,
            AttemptsCommand.command, DeadLetterCommands.command, ReplayCommand.command, TopicsCommands.command, SecretsCommands.command,
            DoctorCommand.command,
            ListenCommand.command, OtherCommands.config, OtherCommands.completion,
        ])
}
