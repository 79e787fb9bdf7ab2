// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .treatAllWarnings(as: .error),
    // 5 in a hundred of a delivery's instructions; debug builds, that is all tests, and the fuzzers check it.
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]

func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

func system(_ name: String, _ pkgConfig: String?, _ package: String) -> Target {
    .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([package])])
}

let package = Package(
    name: "martlet",
    products: [
        .executable(name: "martlet", targets: ["martlet"]),
        .library(name: "MartletProducer", targets: ["MartletProducer"]),
    ],
    targets: [
        // One module per C library: the only places that know C.
        system("CRdkafka", "rdkafka", "librdkafka-dev"),
        system("CLibcurl", "libcurl", "libcurl4-openssl-dev"),
        system("COpenSSL", "openssl", "libssl-dev"),
        system("CCares", "libcares", "libc-ares-dev"),
        system("CMicrohttpd", "libmicrohttpd", "libmicrohttpd-dev"),
        system("CYAML", "yaml-0.1", "libyaml-dev"),
        system("CLinux", nil, "libc6-dev"),

        // General parts with no word of Kafka or delivery in them.
        library("Cryptography", ["COpenSSL"]),
        library("JSON"),
        library("YAML", ["CYAML", "JSON"]),
        library("EventLoop", ["CLinux"]),
        library("Logging", ["JSON"]),
        library("Metrics"),
        library("ArgumentParsing", ["JSON", "YAML"]),
        library("HTTPServing", ["CMicrohttpd"]),

        // The field.
        library("Kafka", ["CRdkafka", "EventLoop"]),
        library("WebhookSigning", ["Cryptography"]),
        library("HTTPDelivery", ["CLibcurl", "CCares", "COpenSSL", "CLinux", "EventLoop", "Cryptography"]),
        library("Martlet", ["Cryptography", "JSON", "WebhookSigning", "HTTPDelivery"]),
        library("MartletProducer", ["Kafka", "Martlet", "EventLoop"]),
        library(
            "MartletWorker",
            ["Kafka", "HTTPDelivery", "WebhookSigning", "Martlet", "EventLoop", "Logging", "Metrics", "HTTPServing", "JSON", "CLinux"]),
        library("MartletSimulator", ["Martlet", "HTTPDelivery"]),
        // Linked by `scripts/fuzz` only: libFuzzer brings the program.
        library("MartletFuzz", ["Martlet", "HTTPDelivery", "JSON", "YAML"]),
        .executableTarget(name: "martlet-simulate", dependencies: ["MartletSimulator", "Martlet", "EventLoop"], swiftSettings: settings),
        .executableTarget(
            name: "martlet",
            dependencies: [
                "MartletWorker", "MartletProducer", "Martlet", "Kafka", "HTTPDelivery", "WebhookSigning", "EventLoop",
                "ArgumentParsing", "Logging", "JSON", "YAML", "HTTPServing", "Cryptography",
            ],
            swiftSettings: settings),

        // Servers that more than one suite needs.
        .target(name: "TestServers", dependencies: ["EventLoop"], path: "Tests/TestServers", swiftSettings: settings),
        tests("CryptographyTests", ["Cryptography"]),
        tests("JSONTests", ["JSON", "YAML"]),
        tests("OperatorToolsTests", ["ArgumentParsing", "Logging", "Metrics", "JSON"]),
        tests(
            "HTTPDeliveryTests", ["HTTPDelivery", "HTTPServing", "EventLoop", "Cryptography", "TestServers"], resources: [.copy("Support")]),
        tests("MartletTests", ["Martlet", "HTTPDelivery", "JSON", "WebhookSigning", "Kafka", "Cryptography"]),
        tests("MartletSimulatorTests", ["MartletSimulator", "martlet-simulate"]),
        tests("KafkaTests", ["Kafka", "EventLoop"]),
        tests(
            "IntegrationTests",
            [
                "MartletWorker", "MartletProducer", "Martlet", "Kafka", "HTTPDelivery", "HTTPServing", "WebhookSigning", "EventLoop",
                "JSON", "Logging", "Cryptography", "TestServers", "martlet",
            ]),
        tests("CommandLineTests", ["martlet"]),
        tests("WebhookSigningTests", ["WebhookSigning", "JSON"], resources: [.copy("vectors.json")]),
    ],
    swiftLanguageModes: [.v6]
)
